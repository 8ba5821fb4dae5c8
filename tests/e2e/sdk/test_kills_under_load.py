"""Trainers, servers, workers, the broker and Postgres are killed while trainers log over both transports."""

import asyncio
import functools
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.installations.installation import Installation, Program
from tests.support.installations.sdk_fixtures import command, history, kafka_uri_of
from tests.support.installations.waiting import assert_runs, folded_by, until
from tests.support.load.load import seed_of_this_run, soak_factor
from tests.support.load.trainer import base_of, keys_of
from tests.support.load.trainers import Life, wrong_points

SOAK = soak_factor(2) == 2
KILLS = dict.fromkeys(("trainer", "worker", "server", "kafka", "postgres"), 20) if SOAK else {
    "trainer": 4, "worker": 3, "server": 3, "kafka": 2, "postgres": 2,
}  # fmt: skip
KEYS, PAUSE, LEAST_POINTS = (100, 0.012, 10_000_000) if SOAK else (20, 0.01, 100_000)
RANKS = 2


@pytest.mark.soak
@pytest.mark.timeout(3000 if SOAK else 300)
async def test_what_trainers_sent_or_left_in_spools_is_there_once_whatever_was_killed(
    installation: Installation, spool_dir: Path
) -> None:
    began = time.monotonic()
    job = _Job(installation, installation.worker(), installation.server(), random.Random(seed_of_this_run()))
    try:
        await job.kill_in_turn()
        await job.log_at_least(LEAST_POINTS)
        await job.leave_spools_behind()
    finally:
        job.stop()
    print(f"load and kills: {time.monotonic() - began:.1f} s, killed {dict(job.killed)}")
    assert [broken for life in job.lives for broken in life.broken_promises()] == []

    began = time.monotonic()
    done = await asyncio.to_thread(command, "sync", str(spool_dir), timeout=600)
    assert done.returncode == 0, done.stderr
    print(f"sync: {time.monotonic() - began:.1f} s, {done.stdout.strip()}")
    assert [files for _, _, files in os.walk(spool_dir) if files] == []
    await installation.settled()
    assert await wrong_points(installation, job.lives) == []
    for run_id in job.runs.values():
        key = keys_of(KEYS)[-1]
        stored = sorted(await asyncio.to_thread(history, job.server.url, run_id, key))
        assert stored == sorted(
            (step, base_of(run_id, life.rank, key) + step)
            for life in job.lives
            if life.run_id == run_id
            for step in range(life.first, (life.last or 0) + 1)
        )
    print(f"{sum(((life.last or 0) - life.first + 1) * KEYS for life in job.lives)} points, each there once")


class _Job:
    """Two runs with a few ranks each, one over HTTP and one over Kafka. A killed rank continues as a new attempt."""

    def __init__(self, installation: Installation, worker: Program, server: Program, chance: random.Random) -> None:
        self.installation, self.worker, self.server, self.chance = installation, worker, server, chance
        self.uris = {"http": server.url, "kafka": kafka_uri_of(installation, server)}
        self.runs = {way: f"{way}-run" for way in self.uris}
        self.lives: list[Life] = []
        self.killed: Counter[str] = Counter()
        self._now = {(way, rank): self._start(way, rank, 0, 0) for way in self.uris for rank in range(RANKS)}

    def _start(self, way: str, rank: int, attempt: int, first: int) -> Life:
        uri, run_id = self.uris[way], self.runs[way]
        life = Life.start(uri, f"by {way}", run_id, rank, f"attempt {attempt}", first, KEYS, PAUSE)
        self.lives.append(life)
        return life

    async def kill_in_turn(self) -> None:
        """Kill everything in a random order, each part while it works, without waiting for its return."""
        plan = [name for name, count in KILLS.items() for _ in range(count)]
        self.chance.shuffle(plan)
        for name in plan:
            assert_runs(self.server)
            for life in self._now.values():
                assert life.process.poll() is None, "a trainer ended by itself"
            await (self._kill_trainer() if name == "trainer" else self._kill(name))
            await asyncio.sleep(self.chance.random() * 0.3)

    async def _kill(self, name: str) -> None:
        await self._is_at_work(name)
        self.killed[name] += 1
        if name in ("kafka", "postgres"):
            self.installation.services.kill(name, signal.SIGKILL)
        else:
            program = self.worker if name == "worker" else self.server
            await asyncio.to_thread(program.kill)
            program.start()

    async def _is_at_work(self, name: str) -> None:
        if name in ("kafka", "postgres"):
            await asyncio.to_thread(self.installation.services.wait_ready, name)
        if name in ("worker", "postgres"):
            folded = await folded_by(self.worker)
            await until(lambda: self._folds(folded), f"an event folded before a kill of {name}")
        else:
            ways = ("http",) if name == "server" else tuple(self.uris)
            arrived = self._arrived(ways)
            await until(lambda: self._arrived(ways) > arrived, f"points that arrive before a kill of {name}")

    async def _folds(self, more_than: int) -> bool:
        return await folded_by(self.worker) > more_than

    def _arrived(self, ways: tuple[str, ...]) -> int:
        runs = [self.runs[way] for way in ways]
        return sum(life.arrived for life in self.lives if life.run_id in runs)

    async def _kill_trainer(self) -> None:
        way, rank = self.chance.choice(list(self._now))
        life, rows = self._now[way, rank], self.chance.randrange(1, 200)
        await until(lambda: len(life.told) >= rows, f"{rows} rows logged before a kill of a trainer")
        self._end_by_force(way, rank)
        assert life.last is not None
        attempt = sum(one.run_id == life.run_id and one.rank == rank for one in self.lives)
        self._now[way, rank] = self._start(way, rank, attempt, life.last + 1)

    def _end_by_force(self, way: str, rank: int) -> None:
        self._now.pop((way, rank)).kill()
        self.killed["trainer"] += 1

    async def log_at_least(self, points: int) -> None:
        """Continue until this much is logged."""

        def logged() -> int:
            return sum(life.told[-1].step - life.first + 1 for life in self.lives if life.told) * KEYS

        await until(lambda: logged() >= points, f"{points} points logged", 1500)

    async def leave_spools_behind(self) -> None:
        """Kill the last rank of each run while nothing accepts its points, then let the others end."""
        await asyncio.to_thread(self.installation.services.wait_ready, "kafka")
        for name, way in (("server", "http"), ("kafka", "kafka")):
            await self._is_at_work(name)
            self.killed[name] += 1
            if name == "server":
                self.server.kill()
            else:
                self.installation.services.kill(name, signal.SIGKILL)
            life = self._now[way, RANKS - 1]
            await until(functools.partial(_has_unsent, life), f"points in the spool of a trainer by {way}")
            self._end_by_force(way, RANKS - 1)
            if name == "server":
                self.server.start()
            await asyncio.to_thread(self.installation.services.wait_ready, "kafka")
            await asyncio.to_thread(self.server.wait_ready)
        async with asyncio.TaskGroup() as group:
            for life in self._now.values():
                group.create_task(asyncio.to_thread(life.end))

    def stop(self) -> None:
        """Stop all processes."""
        for life in self.lives:
            if life.process.poll() is None:
                life.process.kill()
                life.process.wait(30)


def _has_unsent(life: Life) -> bool:
    return life.unsent
