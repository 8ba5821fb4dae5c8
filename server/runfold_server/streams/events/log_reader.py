"""Records of several partitions by one consumer: nothing is lost where aiokafka trips over a record."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from runfold_log.cluster import KafkaCluster
from runfold_schemas.codec.record import Raw
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import full_name
from runfold_server.core.outages import kafka_outages
from runfold_server.streams.consumer import FETCH_WAIT_MS, Gone, reading

FETCH_BYTES = 256 * 1024
"""Of one partition at a time; a larger record comes alone."""
MOST_RECORDS = 500
_BROKEN = "a header's name is not UTF-8"


class Stretch(NamedTuple):
    """Records of a partition, and the offset behind them."""

    raws: list[Raw]
    next_offset: int


class LogReader:
    """Reads on from where it is. One caller at a time."""

    def __init__(self, consumer: Any, namespace: str, places: Mapping[Partition, int]) -> None:
        self._consumer = consumer
        self._targets = {where: TopicPartition(full_name(namespace, where.topic), where.partition) for where in places}
        self._at = dict(places)

    async def read(self, among: Collection[Partition], wait_ms: int = FETCH_WAIT_MS) -> dict[Partition, Stretch]:
        """What comes next in these partitions, perhaps nothing yet. Unavailable while Kafka is away; Gone."""
        targets = {self._targets[where]: where for where in among}
        with kafka_outages():
            try:
                batches = await self._consumer.getmany(*targets, timeout_ms=wait_ms, max_records=MOST_RECORDS)
                found = {}
                for target, where in targets.items():
                    raws = [Raw.of(where.topic, message) for message in batches.get(target, [])]
                    next_offset = raws[-1].position.offset + 1 if raws else self._at[where]
                    # Kafka's own records, such as a transaction's markers, take offsets too.
                    next_offset = max(next_offset, int(await self._consumer.position(target)))
                    if next_offset > self._at[where]:
                        found[where] = Stretch(raws, next_offset)
            except UnicodeDecodeError:
                found = await self._past_broken(targets)
            except OffsetOutOfRangeError as error:
                raise Gone(f"the log does not hold what comes next any more: {error}") from error
        self._at.update({where: stretch.next_offset for where, stretch in found.items()})
        return found

    async def _past_broken(self, targets: Mapping[TopicPartition, Partition]) -> dict[Partition, Stretch]:
        """aiokafka can't hand out a record with a header whose name is no UTF-8, and drops what it had read with it: read one record
        of each partition, and pass what breaks."""
        for target, where in targets.items():
            self._consumer.seek(target, self._at[where])
        ends = await self._consumer.end_offsets(list(targets))
        found = {}
        for target, where in targets.items():
            at = self._at[where]
            if at >= ends[target]:
                continue
            try:
                batches = await self._consumer.getmany(target, timeout_ms=FETCH_WAIT_MS, max_records=1)
            except UnicodeDecodeError:
                self._consumer.seek(target, at + 1)
                found[where] = Stretch([Raw(Position(*where, at), 0, None, None, (), _BROKEN)], at + 1)
                continue
            raws = [Raw.of(where.topic, message) for message in batches.get(target, [])]
            if raws:
                found[where] = Stretch(raws, raws[-1].position.offset + 1)
        return found


@asynccontextmanager
async def open_log(kafka: KafkaCluster, namespace: str, places: Mapping[Partition, int]) -> AsyncIterator[LogReader]:
    """A reader of its own at these places. Unavailable while Kafka is away, Gone if the log does not hold one of them."""
    targets = {TopicPartition(full_name(namespace, where.topic), where.partition): at for where, at in places.items()}
    async with reading(kafka, targets, fetch_bytes=FETCH_BYTES) as consumer:
        yield LogReader(consumer, namespace, places)
