"""What writers that are not ours may put into the log, and what must not stop anybody."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs

from runfold_log.admin import create_log, open_log
from runfold_log.system import read_system
from runfold_log.topics import LogSettings
from runfold_projections.core.projection import Projection
from runfold_projections.generations.generations import create_generation, generations, retire, switch
from runfold_projections.postgres.connection import open_connection
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.system_state import SystemState
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.events.system import Genesis, SchemaDeclared
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic, full_name
from tests.support.installations.in_process import (
    append,
    bare_topic,
    break_headers,
    fetch,
    folded,
    outgoing,
    sender,
    until,
    working,
)
from tests.support.installations.installation import Installation, difference

EXPERIMENTS = Partition(Topic.EXPERIMENTS, 0)


class System:
    """Reads the system topic and counts how often."""

    def __init__(self, installation: Installation) -> None:
        self._read = functools.partial(read_system, installation.services.kafka, installation.namespace)
        self.reads = 0

    async def __call__(self, since: SystemState | None) -> SystemState:
        self.reads += 1
        return await self._read(since)


def created(n: int) -> Outgoing:
    return outgoing(Topic.EXPERIMENTS, ExperimentCreated(name=f"e{n}"), sequence=n)


async def names(installation: Installation) -> list[str]:
    return [name for (name,) in await fetch(installation, "SELECT name FROM experiment ORDER BY experiment_id")]


@asynccontextmanager
async def producing(installation: Installation, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**installation.services.kafka.options(), **options) as producer:
        yield producer


async def test_garbage_with_a_thousand_schema_ids_costs_few_looks_into_system(installation: Installation) -> None:
    garbage = [
        Outgoing(Topic.EXPERIMENTS, b"default", b"\x00" + (10_000 + n).to_bytes(4, "big") + b"x", [])
        for n in range(1000)
    ]
    system = System(installation)
    async with sender(installation) as raw:
        await asyncio.gather(*(raw.send(EXPERIMENTS, one) for one in garbage))
        last = await append(installation, raw, [created(0)])
        async with working(installation, read_system=system):
            await folded(installation, last)
    assert await fetch(installation, "SELECT reason, count(*) FROM set_aside GROUP BY 1") == [
        ("undeclared_schema", 1000)
    ]
    assert await names(installation) == ["Default", "e0"]
    assert system.reads < 20


async def test_another_partitions_genesis_before_our_own_is_not_ours(installation: Installation) -> None:
    await bare_topic(installation, Topic.EXPERIMENTS)
    foreign = Genesis(log_id="foreign", topic="runs", partition=0, partition_count=2)
    async with sender(installation) as raw:
        await append(installation, raw, [outgoing(Topic.EXPERIMENTS, foreign)])
        await create_log(installation.services.kafka, installation.namespace, LogSettings(partitions=2), release="test")
        for n in range(2):
            # Each worker compares the log with the checkpoint anew.
            async with working(installation) as worker:
                await folded(installation, await append(installation, raw, [created(n)]))
                assert worker.problems == []
    assert await names(installation) == ["Default", "e0", "e1"]
    (log_id,) = (await fetch(installation, "SELECT log_id FROM checkpoint WHERE topic = 'experiments'"))[0]
    assert log_id == installation.info.log_id


async def test_a_transactions_marker_at_the_end_keeps_nobody_waiting(installation: Installation) -> None:
    record = created(0)
    async with producing(installation, transactional_id=installation.namespace) as producer, producer.transaction():
        await producer.send_and_wait(
            full_name(installation.namespace, Topic.EXPERIMENTS), record.value, record.key, headers=list(record.headers)
        )
    async with working(installation):
        await installation.settled(timeout=20)
        assert await names(installation) == ["Default", "e0"]
        assert difference(await installation.rows(), await installation.replayed(timeout=30)) == ""


async def test_every_compression_that_kafka_knows_is_read(installation: Installation) -> None:
    codecs = ("gzip", "snappy", "lz4", "zstd")
    topic = full_name(installation.namespace, Topic.EXPERIMENTS)
    async with working(installation):
        for n, codec in enumerate(codecs):
            one = created(n)
            async with producing(installation, compression_type=codec) as producer:
                sent = await producer.send_and_wait(topic, one.value, one.key, headers=list(one.headers))
        await folded(installation, [Position(*EXPERIMENTS, sent.offset)])
    assert await names(installation) == ["Default", "e0", "e1", "e2", "e3"]


async def test_a_header_whose_name_is_no_text_is_set_aside_with_what_follows_in_its_batch(
    installation: Installation,
) -> None:
    topic = full_name(installation.namespace, Topic.EXPERIMENTS)
    async with sender(installation) as raw, working(installation) as worker, producing(installation) as producer:
        await append(installation, raw, [created(0)])
        batch = producer.create_batch()
        for n in (1, 2, 3):
            one = created(n)
            headers = [*one.headers, ("LATIN1", b"")] if n == 2 else list(one.headers)
            batch.append(timestamp=None, key=one.key, value=one.value, headers=headers)
        break_headers(batch)
        sent = await (await producer.send_batch(batch, topic, partition=0))
        last = await append(installation, raw, [created(4)])
        await folded(installation, last)
        assert await names(installation) == ["Default", "e0", "e1", "e4"]
        rows = await fetch(installation, "SELECT log_offset, reason, message FROM set_aside ORDER BY 1")
        assert [row[:2] for row in rows] == [(sent.offset + 1, "envelope"), (sent.offset + 2, "envelope")]
        assert "not UTF-8" in rows[0][2]
        assert worker.problems == []
        assert difference(await installation.rows(), await installation.replayed(timeout=30)) == ""


async def test_a_header_whose_name_is_no_text_in_system_is_passed(installation: Installation) -> None:
    declared = SchemaDeclared(
        schema_id=9002, subject="runfold.x.Z", version=1, level=9, schema='"null"', topics=["runs"]
    )
    async with sender(installation) as raw, producing(installation) as producer:
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=b"garbage", headers=[("LATIN1", b"")])
        break_headers(batch)
        await (await producer.send_batch(batch, full_name(installation.namespace, Topic.SYSTEM), partition=0))
        await raw.send(Partition(Topic.SYSTEM, 0), outgoing(Topic.SYSTEM, declared))
    state = await read_system(installation.services.kafka, installation.namespace)
    assert 9002 in state.declared
    assert await open_log(installation.services.kafka, installation.namespace) == installation.info


async def test_a_paused_partition_is_told_once_waits_quietly_and_outlives_its_generation(
    installation: Installation,
) -> None:
    declared = SchemaDeclared(
        schema_id=9001, subject="runfold.x.Y", version=1, level=9, schema='"null"', topics=["experiments"]
    )
    system = System(installation)
    run = outgoing(Topic.RUNS, RunCreated(run_id="r", experiment_id=0, name="", start_ms=1, artifact_uri="u"))
    with capture_logs() as logs:
        async with sender(installation) as raw, working(installation, read_system=system) as worker:
            await raw.send(Partition(Topic.SYSTEM, 0), outgoing(Topic.SYSTEM, declared))
            newer = replace(created(0), value=b"\x00" + (9001).to_bytes(4, "big"))
            await append(installation, raw, [newer])
            await until("the partition paused", lambda: worker.blocked)
            reads = system.reads
            await asyncio.sleep(2.5)
            assert system.reads == reads, "nobody asks again and again"
            (paused,) = [entry for entry in logs if entry["event"] == "partition_blocked"]
            assert (paused["log_level"], paused["partition"]) == ("error", "experiments:0")
            assert any("a newer worker can read it" in problem for problem in worker.problems)

            async with open_connection(
                installation.services.postgres, installation.namespace, application="test"
            ) as connection:
                async with connection.transaction():
                    before = [g for g in await generations(connection) if g.projection is Projection.EXPERIMENTS]
                    generation = await create_generation(connection, installation.namespace, Projection.EXPERIMENTS)
                    await switch(connection, generation)
                    await retire(connection, [one.schema_name for one in before])
                await until(
                    "the retired generation forgotten",
                    lambda: {item.handler for item in worker.blocked} == {generation.schema_name},
                )
            positions = await append(installation, raw, [run])
            await folded(installation, positions)
