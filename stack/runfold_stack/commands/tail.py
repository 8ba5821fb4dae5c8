"""`runfold events tail`: the log as JSON lines, from any position."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import LogReader
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import format_time
from runfold_schemas.codec.record import Raw, read_record
from runfold_schemas.errors import BadRecord, UndeclaredSchema
from runfold_schemas.events.all_events import as_json
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.topics import Topic, partition_count
from runfold_stack.errors import NoSuchPosition

_WAIT_SECONDS = 1.0


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

    From the beginning, from a position (of its partition only), or with `from_end` only what comes. Without `follow` it
    ends where the log ended when it began. Who does not read it to its end closes it.
    """
    partitions = [
        where
        for topic in (topics if start is None else [start.topic])
        for where in info.all_partitions(topic)
        if start is None or start.where == where
    ]
    if start is not None and not partitions:
        raise NoSuchPosition(
            f"{start}: the log has {partition_count(start.topic, info.partitions)} partitions of {start.topic}"
        )
    async with LogReader(kafka, info.namespace) as reader:
        first, ends = await reader.first_offsets(partitions), await reader.end_offsets(partitions)
        offsets = ends if from_end else first
        if start is not None:
            if start.offset > ends[start.where]:
                raise NoSuchPosition(f"{start}: {start.where} ends before {start._replace(offset=ends[start.where])}")
            offsets = {start.where: max(start.offset, first[start.where])}
        reader.assign(offsets)
        unfinished = {where for where in partitions if follow or offsets[where] < ends[where]}
        while unfinished:
            for where, stretch in (await reader.read(unfinished, wait=_WAIT_SECONDS)).items():
                for raw in stretch.raws:
                    if follow or raw.position.offset < ends[where]:
                        yield line(raw, partition_count(where.topic, info.partitions))
                if not follow and stretch.next_offset >= ends[where]:
                    unfinished.discard(where)


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
