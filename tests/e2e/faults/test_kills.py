"""Everything is killed, again and again, under load."""

import asyncio
import functools
import random
import signal
import time

import pytest

from tests.support.installations.installation import Installation, Program
from tests.support.installations.waiting import assert_runs, folded_by, until
from tests.support.load.load import Load, seed_of_this_run, soak_factor, unequal, wrongs

SOAK = soak_factor(5)
RUNS, ROWS = 500 * SOAK, 40
KILLS = 10 * SOAK


@pytest.mark.soak
@pytest.mark.timeout(600 * SOAK)
async def test_every_acknowledged_write_is_there_exactly_once_and_a_replay_gives_the_same_rows_whatever_was_killed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "120")
    seed = seed_of_this_run()
    worker, server = installation.worker(), installation.server()
    load = Load([server.url], seed, runs=RUNS, rows=ROWS)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        killer = group.create_task(_kill_all(installation, worker, server, load, seed))
        # When the killing fails, the load must end too.
        killer.add_done_callback(lambda task: load.stop() if task.cancelled() or task.exception() else None)
    print(f"load and kills: {time.monotonic() - began:.1f} s, {load.book.unacknowledged} attempts unacknowledged")
    kills = killer.result()
    assert {name: kills.count(name) for name in ("worker", "server", "kafka", "postgres")} == {
        "worker": KILLS,
        "server": KILLS,
        "kafka": SOAK,
        "postgres": SOAK,
    }
    assert load.finished == RUNS
    assert sum(len(run.sent_points) for run in load.book.runs) >= RUNS * ROWS * 10
    assert load.book.unacknowledged >= KILLS, "kills that no client noticed show nothing"

    await installation.settled()
    assert (await wrongs(installation, load.book))[:10] == []
    began = time.monotonic()
    assert unequal(await installation.rows(), await installation.replayed()) == []
    print(f"replay: {time.monotonic() - began:.1f} s")


async def _kill_all(installation: Installation, worker: Program, server: Program, load: Load, seed: int) -> list[str]:
    """Kill in a random order, spread over the load's own progress; answers what was killed."""
    chance = random.Random(f"{seed} kills")
    plan = ["worker", "server"] * KILLS + ["kafka", "postgres"] * SOAK
    chance.shuffle(plan)
    for number, name in enumerate(plan):
        part = number / (len(plan) + 1)
        acknowledged = load.book.acknowledged
        await until(functools.partial(_progressed, load, part), f"{part:.0%} of the load", 120)
        # Something must have been folded and acknowledged in every life, or the kills would hit programs that do
        # nothing.
        await until(lambda: _folds(worker), f"an event folded before kill {number} of {name}")
        assert_runs(server)
        await until(
            functools.partial(_acknowledged_more, load, acknowledged),
            f"a write acknowledged before kill {number} of {name}",
        )
        assert load.done < 1, f"the load ended before kill {number}"
        await asyncio.sleep(chance.random() * 0.3)
        if name in ("kafka", "postgres"):
            installation.services.kill(name, signal.SIGKILL)
            await asyncio.to_thread(installation.services.wait_ready, name)
        else:
            program = worker if name == "worker" else server
            await asyncio.to_thread(program.kill)
            program.start()
    return plan


async def _folds(worker: Program) -> bool:
    return await folded_by(worker) > 0


def _progressed(load: Load, part: float) -> bool:
    return load.done >= part or bool(load.book.failures)


def _acknowledged_more(load: Load, writes: int) -> bool:
    return load.book.acknowledged > writes or load.done >= 1 or bool(load.book.failures)
