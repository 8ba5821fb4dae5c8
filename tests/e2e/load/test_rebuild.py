"""A rebuild while others write and read: nobody notices. And one that is killed, again and again: it ends well."""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runfold_projections.core.projection import Projection
from runfold_projections.generations.generations import generations
from runfold_projections.generations.state_hash import state_hash
from runfold_projections.postgres.connection import LONG_READ_SECONDS, open_connection
from runfold_projections.postgres.read_transaction import checkpoints
from tests.support.installations.installation import Installation, Program
from tests.support.installations.waiting import partitions_of, until
from tests.support.load.load import seed_of_this_run

SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
WRITES_A_SECOND = 500 if SOAK else 80
READS_A_SECOND = 50 if SOAK else 10
RUNS_BEFORE = 5_000 if SOAK else 150
KILLS = 30 if SOAK else 10
PATIENT = ("--patience", "300")
"""What replays has a low priority, and a busy machine may leave it next to nothing for a while."""
API = "/api/2.0/mlflow"


@dataclass
class Traffic:
    """Writers and readers that keep a pace, and note everything that a client would call wrong."""

    url: str
    wrong: list[str] = field(default_factory=list)
    writes: int = 0
    reads: int = 0
    _run_ids: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)
    _positions: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def going(self, clients: int = 12) -> AsyncIterator[None]:
        """Until the block ends."""
        stop = asyncio.Event()
        limits = httpx2.Limits(max_connections=clients + 8)
        async with (
            httpx2.AsyncClient(base_url=self.url, timeout=60, trust_env=False, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(clients):
                group.create_task(self._write(client, stop, clients / WRITES_A_SECOND * 3))
            for _ in range(4):
                group.create_task(self._read(client, stop, 4 / READS_A_SECOND * 2))
            try:
                yield
            finally:
                stop.set()

    async def post(self, client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await client.post(f"{API}/{path}", json=body)
        if answer.status_code != 200:
            self.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")
            return {}
        return dict(answer.json())

    async def one_run(self, client: httpx2.AsyncClient) -> None:
        """Three writes, each of which must be seen by the read that follows."""
        number = next(self._numbers)
        made = await self.post(
            client, "runs/create", {"experiment_id": "0", "start_time": number, "run_name": f"n{number}"}
        )
        if not made:
            return
        run_id = made["run"]["info"]["run_id"]
        await self.post(client, "runs/log-parameter", {"run_id": run_id, "key": "number", "value": str(number)})
        await self.post(
            client, "runs/log-metric", {"run_id": run_id, "key": "m", "value": number, "timestamp": 1, "step": 1}
        )
        self.writes += 3
        self._run_ids.append(run_id)
        answer = await client.get(f"{API}/runs/get", params={"run_id": run_id})
        self.reads += 1
        if answer.status_code != 200:
            self.wrong.append(f"get: {answer.status_code} {answer.text[:200]}")
            return
        data = answer.json()["run"]["data"]
        if data.get("params") != [{"key": "number", "value": str(number)}] or data["metrics"][0]["value"] != number:
            self.wrong.append(f"stale: run {number} shows {data}")

    async def _write(self, client: httpx2.AsyncClient, stop: asyncio.Event, every: float) -> None:
        while not stop.is_set():
            begun = asyncio.get_running_loop().time()
            await self.one_run(client)
            await asyncio.sleep(max(0.0, every - (asyncio.get_running_loop().time() - begun)))

    async def _read(self, client: httpx2.AsyncClient, stop: asyncio.Event, every: float) -> None:
        least = 0
        while not stop.is_set():
            written = len(self._run_ids)
            found = await self.post(
                client,
                "runs/search",
                {"experiment_ids": ["0"], "filter": "params.number LIKE '%7'", "max_results": 1000},
            )
            answer = await client.get("/api/runfold/v1/rejections", params={"consistency": "eventual"})
            self.reads += 2
            if answer.status_code != 200:
                self.wrong.append(f"rejections: {answer.status_code} {answer.text[:200]}")
            elif went_back := {
                where: (self._positions[where], offset)
                for where, offset in answer.json()["positions"].items()
                if offset < self._positions.get(where, 0)
            }:
                self.wrong.append(f"an eventual read went back: {went_back}")
            shown = len(found.get("runs", ()))
            if found and (shown < least or shown < min(1000, written // 20)):
                self.wrong.append(f"a search shows {shown} runs, after {least} and with {written} written")
            least = max(least, shown)
            await asyncio.sleep(every)


def command(installation: Installation, worker: Program, *arguments: str) -> subprocess.Popen[str]:
    with (installation.directory / "command.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "runfold_stack", *arguments],
            env=worker.env,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


async def ended(process: subprocess.Popen[str], timeout: float = 240) -> tuple[int, list[Any]]:
    """Exit code, and standard output as JSON lines."""
    output, _ = await asyncio.to_thread(process.communicate, None, timeout)
    return process.returncode, [json.loads(line) for line in output.splitlines()]


async def assert_equal_hashes(installation: Installation, number: int = 2) -> None:
    """The live generations and a fresh replay of all hash alike, at one vector."""
    await installation.settled()
    await installation.replayed()
    for projection in Projection:
        async with open_connection(
            installation.services.postgres, installation.namespace, application="test"
        ) as control:
            there = [
                g for g in await generations(control) if g.projection is projection and g.state in ("live", "building")
            ]
        found = []
        for generation in there:
            async with (
                open_connection(
                    installation.services.postgres,
                    generation.schema_name,
                    application="test",
                    timeout=LONG_READ_SECONDS,
                ) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                found.append((await checkpoints(connection), await state_hash(connection, projection)))
        assert [g.state for g in there] == ["live", "building"]
        assert there[0].number >= number
        assert found[0] == found[1], projection


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 600)
async def test_nobody_notices_a_rebuild(installation: Installation) -> None:
    worker, server = installation.worker(), installation.server(read_wait=30)
    traffic = Traffic(server.url)
    async with httpx2.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        for at in range(0, RUNS_BEFORE, 10):
            await asyncio.gather(*(traffic.one_run(client) for _ in range(min(10, RUNS_BEFORE - at))))
    async with traffic.going():
        code, results = await ended(command(installation, worker, "rebuild", "--json", *PATIENT))
        assert code == 0, (installation.directory / "command.log").read_text()[-3000:]
        assert [(r["projection"], r["differences"], r["switched"]) for r in results] == [
            (projection.value, 0, True) for projection in Projection
        ]
        before = traffic.writes
        await until(lambda: traffic.writes > before + 60 or bool(traffic.wrong), "writes after the switch")
        rolled = command(installation, worker, "rollback", "runs")
        output, _ = await asyncio.to_thread(rolled.communicate, None, 120)
        assert output == "runs: generation 1 is live again\n"
        before = traffic.writes
        await until(lambda: traffic.writes > before + 60 or bool(traffic.wrong), "writes after the way back")
    assert traffic.wrong[:5] == []
    print(f"{traffic.writes} writes, {traffic.reads} reads")
    await assert_equal_hashes(installation, 1)


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 600)
async def test_a_rebuild_that_is_killed_again_and_again_ends_well(installation: Installation) -> None:
    chance = random.Random(seed_of_this_run())
    worker, server = installation.worker(), installation.server(read_wait=60)
    traffic = Traffic(server.url)
    async with httpx2.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        for _ in range(RUNS_BEFORE // 10):
            await asyncio.gather(*(traffic.one_run(client) for _ in range(10)))
    async with traffic.going(clients=4):
        kills, switched = 0, 0
        while kills < KILLS:
            process = command(installation, worker, "rebuild", "runs", "metrics", "--json", *PATIENT)
            await asyncio.sleep(chance.uniform(0.5, 6.0))
            if process.poll() is not None:
                code, results = await ended(process)
                assert code == 0, (installation.directory / "command.log").read_text()[-3000:]
                switched += len(results)
                continue
            kills += 1
            victim = chance.choice(["command", "command", "replay", "worker"])
            if victim == "worker":
                await asyncio.to_thread(worker.kill)
                worker.start()
            elif victim == "replay":
                for pid in _replaying(worker):
                    os.kill(pid, signal.SIGKILL)
            if victim != "command" and chance.random() < 0.5:
                # The command goes on with whoever comes after.
                code, results = await ended(process)
                assert code == 0, (installation.directory / "command.log").read_text()[-3000:]
                switched += len(results)
                continue
            process.kill()
            await ended(process)
        code, results = await ended(command(installation, worker, "rebuild", "--json", *PATIENT))
        assert code == 0, (installation.directory / "command.log").read_text()[-3000:]
        assert all(result["differences"] == 0 and result["switched"] for result in results)
    assert traffic.wrong[:5] == []
    print(f"{switched} switches in between, {traffic.writes} writes, {traffic.reads} reads")
    async with open_connection(installation.services.postgres, installation.namespace, application="test") as control:
        left: dict[Projection, list[str]] = {}
        for generation in await generations(control):
            left.setdefault(generation.projection, []).append(generation.state)
    assert {projection: sorted(states) for projection, states in left.items()} == {
        projection: ["live", "standby"] for projection in Projection
    }
    await assert_equal_hashes(installation)


async def test_what_is_replayed_is_folded_by_processes_of_its_own_and_given_over_when_it_is_live(
    installation: Installation,
) -> None:
    worker, server = installation.worker(replay_processes=1), installation.server()
    traffic = Traffic(server.url)
    async with httpx2.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        await traffic.one_run(client)
        assert _replaying(worker) == []
        code, _ = await ended(command(installation, worker, "rebuild", "runs", "--json"))
        assert code == 0
        (pid,) = _replaying(worker)
        own = f"{installation.namespace}_runs_2"

        async def is_given_over() -> bool:
            handlers = {handler for handler, _ in await partitions_of(worker)}
            return own in handlers and f"{installation.namespace}_runs_1" not in handlers

        await until(is_given_over, "the new generation is the worker's own, the standby is not")
        await traffic.one_run(client)
        assert traffic.wrong == []
    await asyncio.to_thread(worker.kill, signal.SIGTERM)
    await until(lambda: not Path(f"/proc/{pid}").exists(), "the replaying process ends with its parent", 20)


def _replaying(worker: Program) -> list[int]:
    """Processes that the worker started to replay."""
    assert worker.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == worker.process.pid and words[1:4] == [b"-m", b"runfold_stack", b"replay"]:
            found.append(int(entry.name))
    return found
