"""One partition of the log, read by a Kafka consumer of its own.

A consumer per partition: a long poll that waits for one partition must not delay another (aiokafka answers one fetch per
broker and consumer at a time), and no rebalance can move the assignment under a batch.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from runfold_log.bounded_consumer import BoundedConsumer
from runfold_log.cluster import KafkaCluster
from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.codec.record import Raw, read_record
from runfold_schemas.errors import SchemaError
from runfold_schemas.events.runs import Genesis
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import full_name

from .errors import LogRefused

LONG_POLL_MS = 2000
START_GRACE = 2.0
"""Seconds that a start which is not wanted any more may take."""
FETCH_BYTES = 4 * 1024 * 1024
_BROKEN_HEADER = "a header's name is not UTF-8, in this record or before it in its producer's batch"


class Source:
    """Records of one partition, in order, from where `seek` put it."""

    def __init__(self, consumer: Any, where: Partition, target: TopicPartition) -> None:
        self._consumer, self._where, self._target = consumer, where, target

    async def read(self, most: int, wait: float) -> list[Raw]:
        """The next records, at most `most`; empty if none came within `wait` seconds. LogRefused if they are gone."""
        try:
            return await self._read(most, wait)
        except UnicodeDecodeError:
            return await self._read_up_to_broken(most, wait)
        except OffsetOutOfRangeError as error:
            raise LogRefused(
                f"{self._where}: the log no longer holds the offset to go on from ({error}); it was cut or made anew"
            ) from error

    async def _read(self, most: int, wait: float) -> list[Raw]:
        batches = await self._consumer.getmany(self._target, timeout_ms=int(wait * 1000), max_records=most)
        return [Raw.of(self._where.topic, message) for message in batches.get(self._target, [])]

    async def _read_up_to_broken(self, most: int, wait: float) -> list[Raw]:
        """aiokafka can't hand out a record with a header whose name is not UTF-8, nor what follows it in its producer's batch.

        Those are a foreign producer's, since ours write UTF-8: each is passed by its offset and set aside.
        """
        self.seek(await self.position())
        raws: list[Raw] = []
        while len(raws) < most:
            try:
                one = await self._read(1, wait)
            except UnicodeDecodeError:
                offset = await self.position()
                self.seek(offset + 1)
                time_ms = raws[-1].timestamp_ms if raws else 0
                return [*raws, Raw(Position(*self._where, offset), time_ms, None, None, (), _BROKEN_HEADER)]
            if not one:
                break
            raws += one
        return raws

    def seek(self, offset: int) -> None:
        """Go on from this offset."""
        self._consumer.seek(self._target, offset)

    async def position(self) -> int:
        """Offset that the next read begins at. It passes what holds no events, such as a transaction's markers."""
        return int(await self._consumer.position(self._target))

    async def bounds(self) -> tuple[int, int]:
        """First offset that the log still holds, and its end (next offset)."""
        first = await self._consumer.beginning_offsets([self._target])
        end = await self._consumer.end_offsets([self._target])
        return first[self._target], end[self._target]

    async def check(self, genesis_id: str, next_offset: int, catalog: Catalog, partitions: int) -> None:
        """LogRefused unless this is the log that a checkpoint counts in, and long enough."""
        first, end = await self.bounds()
        if next_offset > end:
            raise LogRefused(
                f"{self._where}: the checkpoint stands at {next_offset}, the log ends at {end}; "
                "the topic was cut or made anew: restore it, or rebuild the projection"
            )
        if first > 0:
            # Retention took the beginning; the checkpoint lies within what is left, so the fold can go on.
            return
        self.seek(0)
        while await self.position() < next_offset:
            for raw in await self.read(100, 5.0):
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
    born = isinstance(record.event, Genesis) and record.event.is_of(where, partitions)
    return record.envelope.event_id if born else None


@asynccontextmanager
async def open_source(kafka: KafkaCluster, namespace: str, where: Partition) -> AsyncIterator[Source]:
    """A started consumer on the partition. KafkaError if Kafka is away."""
    target = TopicPartition(full_name(namespace, where.topic), where.partition)
    consumer = BoundedConsumer(
        **kafka.options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=LONG_POLL_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
        client_id=f"runfold-{where}".replace(":", "-"),
    )
    try:
        await start(consumer)
        consumer.assign([target])
        yield Source(consumer, where, target)
    finally:
        await stop(consumer)


async def start(consumer: Any) -> None:
    """Start an aiokafka consumer.

    A start that is cancelled leaves aiokafka's connection open behind it, until the collector finds it: it is let come to its
    end first, within `START_GRACE`; the caller stops the consumer then.
    """
    starting = asyncio.create_task(consumer.start())
    starting.add_done_callback(_seen)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([starting], timeout=START_GRACE)
        finally:
            starting.cancel()
        raise


def _seen(task: asyncio.Task[None]) -> None:
    # Whoever was cancelled asks for its error no more, and asyncio would complain of that.
    if not task.cancelled():
        task.exception()


async def stop(consumer: Any) -> None:
    """Stop an aiokafka consumer, whatever it was doing.

    aiokafka cancels tasks of its own and awaits them; one that never ran would pass its CancelledError on, over our own error.
    """
    await asyncio.sleep(0)
    await consumer.stop()
