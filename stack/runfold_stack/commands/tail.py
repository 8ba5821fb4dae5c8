"""`runfold events tail`: the log as JSON lines, from any position."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import plain_consumer
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import format_time
from runfold_schemas.codec.record import Raw, read_record
from runfold_schemas.errors import BadRecord, UndeclaredSchema
from runfold_schemas.events.runs import as_json
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic, full_name, partition_count
from runfold_stack.errors import NoSuchPosition


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: at the beginning of the log, at a position, or at its end."""

    position: Position | None = None
    at_end: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `beginning`, `end` or a position; ValueError says what a position looks like."""
        if text in ("beginning", "end"):
            return cls(at_end=text == "end")
        return cls(Position.parse(text))


async def tail(
    kafka: KafkaCluster,
    info: LogInfo,
    topics: Sequence[Topic],
    *,
    start: Position | None = None,
    from_end: bool = False,
    follow: bool = False,
) -> AsyncGenerator[str, None]:
    """Lines of JSON, one per record, in order per partition.

    From the beginning, from a position (of its partition only), or with `from_end` only what comes. Without `follow` it ends
    where the log ended when it began. Who does not read it to its end closes it.
    """
    names = {full_name(info.namespace, topic): topic for topic in (topics if start is None else [start.topic])}
    targets = {
        TopicPartition(name, where.partition): where
        for name, topic in names.items()
        for where in info.all_partitions(topic)
        if start is None or start.where == where
    }
    if start is not None and not targets:
        raise NoSuchPosition(
            f"{start}: the log has {partition_count(start.topic, info.partitions)} partitions of {start.topic}"
        )
    async with plain_consumer(kafka, fetch_max_wait_ms=500) as consumer:
        consumer.assign(list(targets))
        ends = await consumer.end_offsets(list(targets))
        await _seek(consumer, targets, ends, start, from_end)
        open_targets = {t for t in targets if follow or await consumer.position(t) < ends[t]}
        while open_targets:
            batches = await consumer.getmany(*open_targets, timeout_ms=1000)
            for target, messages in batches.items():
                for message in messages:
                    if follow or message.offset < ends[target]:
                        raw = Raw.of(names[target.topic], message)
                        yield line(raw, partition_count(raw.position.topic, info.partitions))
                if not follow and await consumer.position(target) >= ends[target]:
                    open_targets.discard(target)


async def _seek(
    consumer: AIOKafkaConsumer,
    targets: Mapping[TopicPartition, Partition],
    ends: Mapping[TopicPartition, int],
    start: Position | None,
    from_end: bool,
) -> None:
    if start is not None:
        (target,) = targets
        # Kafka's client would go to the beginning instead, without a word.
        if start.offset > ends[target]:
            raise NoSuchPosition(f"{start}: {start.where} ends before {start._replace(offset=ends[target])}")
        consumer.seek(target, start.offset)
    elif from_end:
        await consumer.seek_to_end(*targets)
    else:
        await consumer.seek_to_beginning(*targets)


def line(raw: Raw, partitions: int) -> str:
    """One record as a line of JSON: position, time, envelope and content, or why it can't be read."""
    out: dict[str, Any] = {"position": str(raw.position), "broker_time": format_time(raw.timestamp_ms)}
    try:
        record = read_record(raw, released_catalog(), partitions)
    except (BadRecord, UndeclaredSchema) as error:
        reason = error.reason.value if isinstance(error, BadRecord) else "undeclared_schema"
        out |= {"unreadable": reason, "message": str(error), "size": len(raw.value or b"")}
    else:
        envelope, writer = record.envelope, record.envelope.writer
        out |= {
            "type": envelope.type,
            "id": envelope.event_id,
            "time": format_time(envelope.time_ms),
            "workspace": envelope.workspace,
            "actor": envelope.actor,
            "writer": writer.id,
            "sequence": envelope.sequence,
            "rules": envelope.rules,
        }
        optional = {
            "node": writer.node,
            "attempt": writer.attempt,
            "correlation_id": envelope.correlation_id,
            "causation_id": envelope.causation_id,
        }
        out |= {name: value for name, value in optional.items() if value}
        if writer.rank is not None:
            out["rank"] = writer.rank
        out["data"] = as_json(record.event)
    return json.dumps(out, ensure_ascii=False)
