"""A worker whose partition was taken by another: its commits change nothing, it forgets, and it goes on from where the
other is.
"""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from runfold_consumers.runtime.handlers import ProjectionHandler
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_reader import open_partition
from runfold_consumers.runtime.partition_task import PartitionTask
from runfold_consumers.runtime.read_hints import ReadHints
from runfold_consumers.runtime.schema_gate import SchemaGate
from runfold_log.system import read_system
from runfold_log.writer import LogWriter
from runfold_projections.control.leases import Leasable
from runfold_projections.core.errors import Fenced
from runfold_projections.core.projection import Projection
from runfold_projections.folding.decoding import Decoded, decode_batch
from runfold_projections.generations.generations import Generation
from runfold_projections.postgres.connection import open_pool
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, RunCreated, TagsSet
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition
from tests.support.installations.installation import Installation
from tests.support.load.load import unequal

PARTITIONS = 2
RUNS = 20


async def write(installation: Installation, runs: int = RUNS) -> None:
    """Runs with params, tags and points."""
    ids = Ids()
    async with LogWriter(installation.services.kafka, installation.namespace) as log:
        for n in range(runs):
            run_id = ids.run_id()
            await log.append(
                RunCreated(
                    run_id=run_id, experiment_id=0, name=f"r{n}", user_id="", start_ms=1, artifact_uri="", tags={}
                )
            )
            await log.append(ParamsLogged(run_id=run_id, params={"p": str(n)}))
            await log.append(TagsSet(run_id=run_id, tags={"t": str(n)}))
            await log.append(MetricsLogged(run_id, from_points([Point("m", n / 7, step, step) for step in range(5)])))


def generation_of(installation: Installation, projection: Projection) -> Generation:
    return Generation(projection, 1, f"{installation.namespace}_{projection.value}_1", "live")


@asynccontextmanager
async def handlers(installation: Installation, where: Partition, count: int) -> AsyncIterator[list[ProjectionHandler]]:
    """Handlers of one partition as that many workers would have them."""
    generation = generation_of(installation, Projection(where.topic.value))
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            pool = await stack.enter_async_context(
                open_pool(installation.services.postgres, generation.schema_name, application="test", max_size=2)
            )
            made.append(ProjectionHandler(pool, installation.namespace, generation, where, PARTITIONS))
        yield made


async def everything(installation: Installation, where: Partition) -> list[Raw]:
    """The partition's records."""
    end = (await installation.ends())[where]
    raws: list[Raw] = []
    async with open_partition(installation.services.kafka, installation.namespace, where) as source:
        source.seek(0)
        while len(raws) < end:
            raws += await source.read(1000, 5.0)
    return raws


def decoded(raws: list[Raw]) -> Decoded:
    return decode_batch(raws, released_catalog(), PARTITIONS)


@pytest.mark.parametrize("projection", [Projection.RUNS, Projection.METRICS])
async def test_a_batch_of_a_stale_worker_changes_nothing_and_it_goes_on_from_the_new_checkpoint(
    installation: Installation, projection: Projection
) -> None:
    await write(installation)
    where = Partition(projection.topic, 0)
    raws = await everything(installation, where)
    third = len(raws) // 3
    async with handlers(installation, where, 2) as (stale, other):
        first = (await stale.apply(None, decoded(raws[:third]))).checkpoint
        assert first is not None
        before = await other.checkpoint()
        assert before is not None
        await other.apply(before, decoded(raws[third : 2 * third]))
        taken = await installation.rows()

        for batch in (raws[third : third + 5], raws[third:], raws[third : 2 * third]):
            with pytest.raises(Fenced):
                await stale.apply(first, decoded(batch))
            assert unequal(await installation.rows(), taken) == []
        stale.forget()

        again = await stale.checkpoint()
        assert again is not None
        assert again.next_offset == raws[2 * third].position.offset
        await stale.apply(again, decoded(raws[2 * third :]))
    installation.worker()
    await installation.settled()
    assert unequal(await installation.rows(), await installation.replayed()) == []


@pytest.mark.parametrize("projection", [Projection.RUNS, Projection.METRICS])
async def test_two_workers_that_both_believe_to_hold_a_partition_fold_every_event_once(
    installation: Installation, projection: Projection
) -> None:
    where = Partition(projection.topic, 0)
    item = Leasable(generation_of(installation, projection).schema_name, where)
    system = functools.partial(read_system, installation.services.kafka, installation.namespace)
    gate, counted = SchemaGate(released_catalog(), system), WorkerMetrics()
    async with handlers(installation, where, 2) as both:
        tasks = [
            PartitionTask(
                installation.services.kafka,
                installation.namespace,
                item,
                PARTITIONS,
                handler,
                gate,
                counted,
                ReadHints(),
            )
            for handler in both
        ]
        running = [asyncio.ensure_future(task.run()) for task in tasks]
        try:
            await asyncio.gather(*(write(installation) for _ in range(4)))
            end = (await installation.ends())[where]
            async with asyncio.timeout(60):
                while await _reached(both[0]) < end:
                    await asyncio.sleep(0.05)
        finally:
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    fenced = counted.failures.labels(item.handler, "Fenced")._value.get()
    assert fenced > 0, "two that never met show nothing"
    installation.worker()
    await installation.settled()
    live: Any = await installation.rows()
    assert len([row for table, row in live[Projection.RUNS] if table == "run"]) == 4 * RUNS
    assert unequal(live, await installation.replayed()) == []


async def _reached(handler: ProjectionHandler) -> int:
    checkpoint = await handler.checkpoint()
    return checkpoint.next_offset if checkpoint else 0
