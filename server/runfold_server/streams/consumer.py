"""A consumer on given places of the log, opened and closed whole."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from runfold_log.bounded_consumer import BoundedConsumer
from runfold_log.cluster import KafkaCluster
from runfold_server.core.outages import kafka_outages

FETCH_WAIT_MS = 500
_REQUEST_MS = 10_000


class Gone(Exception):
    """The log does not hold the offset any more, or not yet; or holds what this release can't read: what was told must be read anew."""


@asynccontextmanager
async def reading(kafka: KafkaCluster, places: Mapping[TopicPartition, int], *, fetch_bytes: int) -> AsyncIterator[Any]:
    """A consumer of its own, at these offsets. Unavailable while Kafka is away, Gone if the log does not hold one of them."""
    async with asking(kafka, max_partition_fetch_bytes=fetch_bytes, request_timeout_ms=_REQUEST_MS) as consumer:
        await _whole(_seek(consumer, places))
        yield consumer


@asynccontextmanager
async def asking(kafka: KafkaCluster, *, request_timeout_ms: int, **options: Any) -> AsyncIterator[Any]:
    """A consumer of its own that nothing is assigned to. Unavailable while Kafka is away."""
    consumer = BoundedConsumer(
        **kafka.options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_WAIT_MS,
        request_timeout_ms=request_timeout_ms,
        retry_backoff_ms=50,
        **options,
    )
    try:
        with kafka_outages():
            await _whole(consumer.start())
        yield consumer
    finally:
        await _whole(_stop(consumer))


async def _seek(consumer: AIOKafkaConsumer, places: Mapping[TopicPartition, int]) -> None:
    # Before they are assigned: the look-ups open the connection that fetches use, too.
    with kafka_outages():
        first = await consumer.beginning_offsets(list(places))
        end = await consumer.end_offsets(list(places))
    for target, start in places.items():
        if not first[target] <= start <= end[target]:
            raise Gone(
                f"the log holds offsets {first[target]} to {end[target]} of {target.topic}:{target.partition}, not {start}"
            )
    consumer.assign(list(places))
    for target, start in places.items():
        consumer.seek(target, start)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    # aiokafka's stop awaits a task that it cancels; one that never ran would pass its CancelledError on, over our own error.
    await asyncio.sleep(0)
    await consumer.stop()


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, however often the caller is cancelled meanwhile: half open or half closed, aiokafka leaves a connection behind."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:
            break
    if cancelled:
        await asyncio.gather(task, return_exceptions=True)
        raise asyncio.CancelledError
    task.result()
