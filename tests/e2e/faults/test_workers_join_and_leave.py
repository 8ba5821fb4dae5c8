"""Workers come and go under load: partitions move, and nothing is lost, doubled or left undone."""

import asyncio
import functools
import signal
import time
from pathlib import Path

import pytest

from runfold_projections.postgres.connection import open_connection
from tests.support.installations.installation import Installation, Program, new_installation
from tests.support.installations.waiting import folded_by, partitions_of, status_of, until
from tests.support.load.load import Load, seed_of_this_run, soak_factor, unequal, wrongs
from tests.support.services.running import Services

PARTITIONS = 4
ALL = 3 + 2 * PARTITIONS
"""Of experiments, of the registry for its fold and for its webhooks, and of runs and metrics."""
VISITS = 4 * soak_factor(5)
LEAVE_WITHIN = 20.0


@pytest.mark.soak
@pytest.mark.timeout(600 * soak_factor(5))
async def test_a_third_worker_that_joins_and_leaves_takes_its_share_and_changes_no_row(
    services: Services, tmp_path: Path
) -> None:
    seed = seed_of_this_run()
    async with new_installation(services, "visited", tmp_path, partitions=PARTITIONS) as installation:
        two = [installation.worker(), installation.worker()]
        server = installation.server()
        await until(lambda: _shares(two, [5, 6]), "two workers share evenly")
        load = Load([server.url], seed, clients=4, threads=3)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(load.run())
            try:
                folded = await _visits(installation, two, load)
            finally:
                load.stop()
            await running
        print(
            f"{VISITS} visits: {time.monotonic() - began:.1f} s, {load.finished} runs, folded by the visitor {folded}"
        )
        assert all(folded), "a visitor that folds nothing shows nothing"
        await installation.settled()
        assert (await wrongs(installation, load.book))[:10] == []
        assert unequal(await installation.rows(), await installation.replayed()) == []


async def _visits(installation: Installation, two: list[Program], load: Load) -> list[int]:
    """Let a third worker join and leave; answers how many events it folded each time."""
    folded = []
    third: Program | None = None
    for visit in range(VISITS):
        if third is None:
            third = installation.worker()
        else:
            third.start()
            third.wait_ready()
        workers = [*two, third]
        await until(functools.partial(_shares, workers, [3, 4, 4]), f"visit {visit}: three workers share evenly")
        await until(functools.partial(_folds, third), f"visit {visit}: the third worker folds")
        worker_id = (await status_of(third))["worker_id"]
        folded.append(await folded_by(third))
        if visit % 2 == 0:
            began = time.monotonic()
            assert await asyncio.to_thread(third.kill, signal.SIGTERM) == 0, third.log.read_text()[-3000:]
            assert time.monotonic() - began < LEAVE_WITHIN
            assert await _leases_of(installation, worker_id) == 0, "a clean end gives the leases up"
        else:
            await asyncio.to_thread(third.kill, signal.SIGKILL)
        await until(lambda: _shares(two, [5, 6]), f"visit {visit}: two workers share evenly again")
        assert not load.book.failures, load.book.failures[:3]
    return folded


async def _shares(workers: list[Program], shares: list[int]) -> bool:
    """Whether every partition is held by one of the workers, in these shares."""
    held = [await partitions_of(worker) for worker in workers]
    return sorted(map(len, held)) == shares and len(set().union(*held)) == ALL


async def _folds(worker: Program) -> bool:
    return await folded_by(worker) > 0


async def _leases_of(installation: Installation, worker_id: str) -> int:
    async with open_connection(
        installation.services.postgres, installation.namespace, application="test"
    ) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM lease WHERE worker_id = $1", worker_id)
        return count
