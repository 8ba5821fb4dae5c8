"""A worker inside the test's own loop, so that a test can look into it; and raw appends, past every check of ours."""

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.record.util import calc_crc32c

from runfold_consumers.worker.config import WorkerConfig
from runfold_consumers.worker.worker import Worker
from runfold_log.producer import RecordSender
from runfold_log.system import read_system
from runfold_projections.postgres.connection import open_pool
from runfold_projections.postgres.read_transaction import checkpoints, has_reached, read_transaction
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.events.all_events import Event
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic, full_name, partition_count, partition_of
from tests.support.installations.installation import Installation

_ids = Ids()


@asynccontextmanager
async def working(installation: Installation, **config: Any) -> AsyncIterator[Worker]:
    """A worker that runs as long as the block; its settings may be overridden by name."""
    system = functools.partial(read_system, installation.services.kafka, installation.namespace)
    given = {
        "kafka": installation.services.kafka,
        "dsn": installation.services.postgres,
        "namespace": installation.namespace,
        "partitions": installation.info.partitions,
        "release": "test",
        "read_system": system,
        **config,
    }
    worker = Worker(WorkerConfig(**given))
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def sender(installation: Installation) -> AsyncIterator[RecordSender]:
    """Appends whatever it is given."""
    async with RecordSender(installation.services.kafka, installation.namespace) as raw:
        yield raw


def outgoing(
    topic: Topic,
    event: Event,
    *,
    writer: str = "writer",
    sequence: int = 0,
    rank: int | None = None,
    attempt: str = "",
    event_id: str | None = None,
    time_ms: int | None = None,
    causation_id: str = "",
) -> Outgoing:
    """An event as a native client would send it."""
    envelope = Envelope(
        event_id or _ids.event_id(),
        event.subject,
        time_ms if time_ms is not None else _ids.now_ms(),
        Writer(writer, "test", rank, attempt),
        sequence,
        causation_id=causation_id,
    )
    key = (event.entity or envelope.workspace).encode()
    return Outgoing(topic, key, wire.encode(event), envelope.headers())


def place(installation: Installation, record: Outgoing) -> Partition:
    """The partition that the record's key belongs to."""
    return Partition(
        record.topic, partition_of(record.key, partition_count(record.topic, installation.info.partitions))
    )


async def append(installation: Installation, raw: RecordSender, records: Sequence[Outgoing]) -> list[Position]:
    """Append records where their keys belong, in order."""
    return [await raw.send(place(installation, record), record) for record in records]


async def folded(installation: Installation, positions: Sequence[Position], timeout: float = 60.0) -> None:
    """Return once the live generations have folded these positions."""
    want: dict[Partition, int] = {}
    for position in positions:
        want[position.where] = max(want.get(position.where, 0), position.offset + 1)
    async with (
        asyncio.timeout(timeout),
        open_pool(installation.services.postgres, installation.namespace, application="test") as pool,
    ):
        while True:
            async with read_transaction(pool) as connection:
                if has_reached(await checkpoints(connection), want):
                    return
            await asyncio.sleep(0.02)


async def fetch(installation: Installation, query: str, *args: Any) -> list[tuple[Any, ...]]:
    """Rows of the live views."""
    async with open_pool(installation.services.postgres, installation.namespace, application="test") as pool:
        return [tuple(row) for row in await pool.fetch(query, *args)]


async def bare_topic(installation: Installation, topic: Topic) -> None:
    """Delete the topic and make it again, empty, without a genesis."""
    name = full_name(installation.namespace, topic)
    admin = AIOKafkaAdminClient(**installation.services.kafka.options())
    await admin.start()
    try:
        await admin.delete_topics([name])
        while name in await admin.list_topics():
            await asyncio.sleep(0.1)
        count = partition_count(topic, installation.info.partitions)
        await admin.create_topics([NewTopic(name, count, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})])
        while name not in await admin.list_topics():
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def until(what: str, ask: Any, timeout: float = 30.0) -> None:
    """Return once `ask()` is true; AssertionError names what did not come."""
    for _ in range(int(timeout / 0.05)):
        if ask():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"did not happen within {timeout:g} s: {what}")


def break_headers(batch: Any) -> None:
    """What librdkafka writes and aiokafka would not: a header name in Latin-1.

    The batch's checksum is made right again.
    """
    data = bytearray(bytes(batch._build()).replace(b"LATIN1", b"L\xc4TIN1"))
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    batch._buffer = data
