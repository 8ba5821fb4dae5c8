"""Reading the log as far as a writer must: the `system` topic and the beginnings of partitions."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from runfold_schemas.codec.catalog import Catalog, released_catalog
from runfold_schemas.codec.record import Raw, read_record
from runfold_schemas.codec.system_state import SystemState
from runfold_schemas.errors import SchemaError
from runfold_schemas.events.runs import Genesis
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, full_name

from .bounded_consumer import BoundedConsumer
from .cluster import KafkaCluster


@asynccontextmanager
async def plain_consumer(kafka: KafkaCluster, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer without a group; the caller assigns and seeks."""
    consumer = BoundedConsumer(
        **kafka.options(), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", **options
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        # aiokafka's stop awaits a task that it cancels; one that never ran would pass its CancelledError on, over our own error.
        await asyncio.sleep(0)
        await consumer.stop()


async def read_range(consumer: AIOKafkaConsumer, namespace: str, where: Partition, start: int) -> AsyncIterator[Raw]:
    """Records of a partition from `start` to its end as it was when the call began, but for those that aiokafka can't read."""
    target = TopicPartition(full_name(namespace, where.topic), where.partition)
    consumer.assign([target])
    end = (await consumer.end_offsets([target]))[target]
    consumer.seek(target, start)
    most: int | None = None
    while start < end:
        try:
            batches = await consumer.getmany(target, timeout_ms=1000, max_records=most)
        except UnicodeDecodeError:
            # A foreign header name that is no UTF-8: aiokafka can't hand the record out. Come to it one by one, then pass it.
            start = await consumer.position(target) + (most or 0)
            most = 1
            consumer.seek(target, start)
            continue
        for message in batches.get(target, []):
            if message.offset >= end:
                return
            yield Raw.of(where.topic, message)
        start = await consumer.position(target)


async def read_system(
    kafka: KafkaCluster, namespace: str, since: SystemState | None = None, catalog: Catalog | None = None
) -> SystemState:
    """State of the `system` topic up to its end as of now, going on from `since`.

    An empty `log_id` in the answer means that the log was not born yet.
    """
    state = since or SystemState()
    where = Partition(Topic.SYSTEM, 0)
    async with plain_consumer(kafka, fetch_max_wait_ms=100) as consumer:
        raws = [raw async for raw in read_range(consumer, namespace, where, state.next_offset)]
    return state.fold(raws, catalog or released_catalog())


async def without_genesis(
    consumer: AIOKafkaConsumer, namespace: str, wanted: Mapping[Partition, int], catalog: Catalog
) -> list[Partition]:
    """Those of the partitions, given with their topics' counts, that lack a genesis. Reads each only up to its genesis."""
    missing = []
    for where, count in wanted.items():
        async for raw in read_range(consumer, namespace, where, 0):
            try:
                event = read_record(raw, catalog, count).event
            except SchemaError:
                continue
            if isinstance(event, Genesis) and event.is_of(where, count):
                break
        else:
            missing.append(where)
    return missing
