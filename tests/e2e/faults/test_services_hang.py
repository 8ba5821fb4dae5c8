"""Kafka or Postgres hangs: it takes connections and says nothing. The worker says so, waits, and goes on."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.installations.installation import Installation, Program
from tests.support.installations.stopping import stop_process
from tests.support.installations.waiting import answer_of, assert_runs, folded_by, until
from tests.support.load.load import Load, seed_of_this_run, unequal, wrongs


@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_a_worker_says_that_a_service_hangs_and_goes_on_when_it_answers_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "120")
    worker, server = installation.worker(), installation.server()
    assert worker.process is not None
    pid = worker.process.pid
    load = Load([server.url], seed_of_this_run(), clients=3, threads=2)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        try:
            await until(lambda: load.finished >= 10, "ten runs before it hangs")
            with _hanging(installation.services.stack.pid(part)):
                await until(lambda: _is_told(worker, part), f"the worker tells that {part} is away")
                assert (await answer_of(worker, "/health/live"))[0] == 200
            await until(worker.is_ready, "the worker is ready again")
            before, folded = load.finished, await folded_by(worker)
            await until(lambda: load.finished >= before + 10, "ten runs after it answered again")
            assert await folded_by(worker) > folded
            assert_runs(worker)
            assert worker.process.pid == pid
        finally:
            load.stop()
    await installation.settled()
    assert (await wrongs(installation, load.book))[:10] == []
    assert unequal(await installation.rows(), await installation.replayed()) == []


async def _is_told(worker: Program, part: str) -> bool:
    code, text = await answer_of(worker, "/health/ready")
    return code == 503 and any(problem.lower().startswith(part) for problem in json.loads(text)["problems"])


@contextmanager
def _hanging(pid: int) -> Iterator[None]:
    """Stop a process and its children (Postgres's sessions) for as long as the block lasts."""
    stopped = [pid]
    stop_process(pid)
    try:
        for child in _children(pid):
            stop_process(child)
            stopped.append(child)
        yield
    finally:
        for one in stopped:
            os.kill(one, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found
