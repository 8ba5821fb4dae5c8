"""One partition of the log, read by a Kafka consumer of its own.

With a consumer per partition, a fetch that waits for one partition does not delay another (aiokafka has one fetch per
broker and consumer under way), and no rebalance can move the assignment under a batch.
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

from .errors import LogRefused

LONG_POLL_SECONDS = 2.0
"""How long a broker holds a fetch that finds nothing: many partitions are idle for long."""
FETCH_BYTES = 4 * 1024 * 1024
_CHECK_RECORDS = 100
_CHECK_SECONDS = 5.0


class PartitionReader:
    """Records of one partition, in order, from where `seek` put it."""

    def __init__(self, reader: LogReader, where: Partition) -> None:
        self._reader, self._where = reader, where

    async def read(self, most: int, wait: float) -> list[Raw]:
        """The next records, at most `most`; empty if none came within `wait` seconds. LogRefused if the log no longer holds them."""
        try:
            stretch = (await self._reader.read(wait=wait, most=most)).get(self._where)
        except OffsetNotHeld as error:
            raise LogRefused(
                f"{self._where}: the log no longer holds the offset to go on from ({error}); it was cut or made anew"
            ) from error
        return [] if stretch is None else stretch.raws

    def seek(self, offset: int) -> None:
        """Continue from this offset."""
        self._reader.seek(self._where, offset)

    async def position(self) -> int:
        """The offset that the next read begins at. It moves past what holds no events, such as a transaction's markers."""
        return await self._reader.position(self._where)

    async def bounds(self) -> tuple[int, int]:
        """The first offset that the log still holds, and its end offset."""
        first = await self._reader.first_offsets([self._where])
        end = await self._reader.end_offsets([self._where])
        return first[self._where], end[self._where]

    async def check(self, genesis_id: str, next_offset: int, catalog: Catalog, partitions: int) -> None:
        """LogRefused unless this is the log that a checkpoint counts in, and long enough."""
        first, end = await self.bounds()
        if next_offset > end:
            raise LogRefused(
                f"{self._where}: the checkpoint stands at {next_offset}, the log ends at {end}; "
                "the topic was cut or made anew: restore it, or rebuild the projection"
            )
        if first > 0:
            # Retention deleted the genesis; the checkpoint is within what is left, so the fold can continue.
            return
        self.seek(0)
        while await self.position() < next_offset:
            for raw in await self.read(_CHECK_RECORDS, _CHECK_SECONDS):
                found = _genesis_id(raw, catalog, self._where, partitions)
                if found is not None:
                    if found != genesis_id:
                        raise LogRefused(
                            f"{self._where}: the partition's genesis is {found}, the checkpoint's {genesis_id}; "
                            "the topic was deleted and made again: restore it, or rebuild the projection"
                        )
                    return
        raise LogRefused(
            f"{self._where}: no genesis record stands before the checkpoint at {next_offset}; "
            "the topic was deleted and made again: restore it, or rebuild the projection"
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
    """A started reader of the partition. LogUnavailable if Kafka is away."""
    client_id = f"runfold-{where}".replace(":", "-")
    async with LogReader(
        kafka, namespace, fetch_wait=LONG_POLL_SECONDS, fetch_bytes=FETCH_BYTES, client_id=client_id
    ) as reader:
        yield PartitionReader(reader, where)
