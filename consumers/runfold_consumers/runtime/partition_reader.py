"""Reads one partition of the log with a Kafka consumer of its own.

A fetch that waits for one partition must not delay another: aiokafka has one fetch in flight per broker and consumer.
And no rebalance can move the assignment during a batch.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runfold_log.cluster import KafkaCluster
from runfold_log.errors import OffsetNotHeld
from runfold_log.reader import LogReader
from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.codec.record import Raw, read_record
from runfold_schemas.errors import SchemaError
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition

from .errors import LogMismatch

LONG_POLL_SECONDS = 2.0
"""How long a broker holds a fetch that finds nothing. Most partitions are idle most of the time."""
FETCH_BYTES = 4 * 1024 * 1024
"""Most bytes of one fetch: a batch's worth (see `partition_task.MAX_BATCH_BYTES`)."""
_CHECK_RECORDS = 100
"""Records per read in search of the genesis, which is normally the first."""
_CHECK_SECONDS = 5.0
"""Wait for each of these reads. The records exist, so only a slow broker takes this long."""


class PartitionReader:
    """Reads the records of one partition in order, starting where `seek` put it."""

    def __init__(self, reader: LogReader, where: Partition) -> None:
        self._reader, self._where = reader, where

    async def read(self, limit: int, wait: float) -> list[Raw]:
        """Return up to `limit` records; none if none came within `wait` seconds.

        LogMismatch if the log no longer has them.
        """
        try:
            stretch = (await self._reader.read(wait=wait, most=limit)).get(self._where)
        except OffsetNotHeld as error:
            raise LogMismatch(
                f"{self._where}: the log no longer holds the next offset ({error}); the topic was truncated or "
                "recreated"
            ) from error
        return [] if stretch is None else stretch.raws

    def seek(self, offset: int) -> None:
        """Continue from this offset."""
        self._reader.seek(self._where, offset)

    async def position(self) -> int:
        """Return the offset at which the next read begins.

        It moves past Kafka's own records, such as transaction markers.
        """
        return await self._reader.position(self._where)

    async def bounds(self) -> tuple[int, int]:
        """Return the first offset that the log still holds, and its end offset."""
        first = await self._reader.first_offsets([self._where])
        end = await self._reader.end_offsets([self._where])
        return first[self._where], end[self._where]

    async def check(self, genesis_id: str, next_offset: int, catalog: Catalog, partitions: int) -> None:
        """Raise LogMismatch unless this is the log that the checkpoint refers to and it reaches the checkpoint."""
        first, end = await self.bounds()
        if next_offset > end:
            raise LogMismatch(
                f"{self._where}: the checkpoint is at {next_offset}, but the log ends at {end}; "
                "the topic was truncated or recreated: restore it, or rebuild the projection"
            )
        if first > 0:
            # Retention deleted the genesis. The checkpoint is within the records that remain, so the fold can continue.
            return
        self.seek(0)
        while await self.position() < next_offset:
            for raw in await self.read(_CHECK_RECORDS, _CHECK_SECONDS):
                found = _genesis_id(raw, catalog, self._where, partitions)
                if found is not None:
                    if found != genesis_id:
                        raise LogMismatch(
                            f"{self._where}: the partition's genesis is {found}, the checkpoint's {genesis_id}; "
                            "the topic was deleted and recreated: restore it, or rebuild the projection"
                        )
                    return
        raise LogMismatch(
            f"{self._where}: there is no genesis record before the checkpoint at {next_offset}; "
            "the topic was deleted and recreated: restore it, or rebuild the projection"
        )


def _genesis_id(raw: Raw, catalog: Catalog, where: Partition, partitions: int) -> str | None:
    try:
        record = read_record(raw, catalog, partitions)
    except SchemaError:
        return None
    is_genesis = isinstance(record.event, Genesis) and record.event.is_of(where, partitions)
    return record.envelope.event_id if is_genesis else None


@asynccontextmanager
async def open_partition(kafka: KafkaCluster, namespace: str, where: Partition) -> AsyncIterator[PartitionReader]:
    """Open a reader of the partition. LogUnavailable if Kafka does not answer."""
    client_id = f"runfold-{where}".replace(":", "-")
    async with LogReader(
        kafka, namespace, fetch_wait=LONG_POLL_SECONDS, fetch_bytes=FETCH_BYTES, client_id=client_id
    ) as reader:
        yield PartitionReader(reader, where)
