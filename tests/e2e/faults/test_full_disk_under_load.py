"""A disk that gets full under load: clear errors, nothing acknowledged is lost, and everything goes on when there is
space again.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from runfold_log.errors import LogUnavailable
from runfold_log.writer import LogWriter
from runfold_schemas.events.experiments import ExperimentCreated
from tests.support.installations.installation import Program
from tests.support.installations.small_disk_installation import SmallDiskInstallation, cramped_installation
from tests.support.installations.waiting import answer_of, status_of, until
from tests.support.load.load import API, Load, seed_of_this_run, unequal, wrongs

ANSWER_WITHIN = 30.0
APPEND_TIMEOUT = 5.0
PROBE = "probe"


@pytest.fixture(autouse=True)
def _patient_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "240")


@pytest.mark.timeout(600)
async def test_when_kafkas_disk_is_full_appends_are_refused_in_time_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    async with cramped_installation(tmp_path, "kafka", 160) as on_small_disk:
        installation = on_small_disk.installation
        worker, server = installation.worker(), installation.server()
        run_id = await _a_run(server)
        load = Load([server.url], seed_of_this_run(), clients=3, threads=2)
        load.book.unanswered_names.add(PROBE)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            try:
                await until(lambda: load.finished >= 10, "ten runs before the disk is full")
                await until(lambda: _fill_until_refused(on_small_disk, server, run_id), "a write is refused")
                await _appends_fail_in_time(on_small_disk)
                code, text, headers, seconds = await _write(server, run_id)
                assert code == 503, text
                assert "Kafka" in text
                assert headers["retry-after"].isdecimal()
                assert seconds < ANSWER_WITHIN
                await until(lambda: on_small_disk.was_named("kafka"), "the supervisor names the full disk")
                code, text = await answer_of(server, "/health/ready")
                assert code == 503
                assert not json.loads(text)["parts"]["kafka"]["ok"]
                assert worker.process is not None
                assert worker.process.poll() is None, "a worker waits"

                before = load.finished
                on_small_disk.ballast.drop()
                await until(lambda: _is_written(server, run_id), "writes are acknowledged again")
                await until(lambda: load.finished >= before + 10, "ten runs after there was space again")
            finally:
                load.stop()
        await _all_is_there(on_small_disk, load)


@pytest.mark.timeout(600)
async def test_when_postgres_disk_is_full_the_worker_waits_in_sight_and_goes_on(tmp_path: Path) -> None:
    async with cramped_installation(tmp_path, "postgres", 400) as on_small_disk:
        installation = on_small_disk.installation
        worker, server = installation.worker(), installation.server()
        load = Load([server.url], seed_of_this_run(), clients=3, threads=2)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            try:
                await until(lambda: load.finished >= 10, "ten runs before the disk is full")
                await until(lambda: _fill_until_waiting(on_small_disk, worker), "the worker waits")
                code, text = await answer_of(worker, "/health/ready")
                assert code == 503
                assert "waiting" in text
                # The next segment of its own log is what Postgres can't do without: it stops, and can't start either.
                await _switch_wal(on_small_disk)
                await until(lambda: on_small_disk.was_named("postgres"), "the supervisor names the full disk")
                assert worker.process is not None
                assert worker.process.poll() is None, "a worker waits"
                assert (await answer_of(server, "/health/live"))[0] == 200

                before = load.finished
                on_small_disk.ballast.drop()
                await until(lambda: worker.is_ready() and server.is_ready(), "worker and server are ready again")
                await until(lambda: load.finished >= before + 10, "ten runs after there was space again")
            finally:
                load.stop()
        await _all_is_there(on_small_disk, load)


async def _all_is_there(on_small_disk: SmallDiskInstallation, load: Load) -> None:
    assert load.book.unacknowledged > 0
    await on_small_disk.installation.settled()
    assert (await wrongs(on_small_disk.installation, load.book))[:10] == []
    assert unequal(await on_small_disk.installation.rows(), await on_small_disk.installation.replayed()) == []


async def _a_run(server: Program) -> str:
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as http:
        answer = await http.post(f"{API}/runs/create", json={"experiment_id": "0", "run_name": PROBE})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run"]["info"]["run_id"])


async def _write(server: Program, run_id: str) -> tuple[int, str, dict[str, str], float]:
    began = time.monotonic()
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
        body = {"run_id": run_id, "key": "m", "value": 1.0, "timestamp": 1}
        answer = await http.post(f"{API}/runs/log-metric", json=body)
        return answer.status_code, answer.text, dict(answer.headers), time.monotonic() - began


async def _is_written(server: Program, run_id: str) -> bool:
    return (await _write(server, run_id))[0] == 200


async def _fill_until_refused(on_small_disk: SmallDiskInstallation, server: Program, run_id: str) -> bool:
    await asyncio.to_thread(on_small_disk.ballast.fill)
    return not await _is_written(server, run_id)


async def _fill_until_waiting(on_small_disk: SmallDiskInstallation, worker: Program) -> bool:
    await asyncio.to_thread(on_small_disk.ballast.fill)
    partitions: list[dict[str, Any]] = (await status_of(worker)).get("partitions", [])
    return any(one["state"] == "waiting" for one in partitions)


async def _appends_fail_in_time(on_small_disk: SmallDiskInstallation) -> None:
    began = time.monotonic()
    async with LogWriter(
        on_small_disk.installation.services.kafka, on_small_disk.installation.namespace, timeout=APPEND_TIMEOUT
    ) as log:
        with pytest.raises(LogUnavailable, match="Kafka at "):
            await log.append(ExperimentCreated(name="never acknowledged", artifact_location="", tags={}))
    assert time.monotonic() - began < APPEND_TIMEOUT + ANSWER_WITHIN


async def _switch_wal(on_small_disk: SmallDiskInstallation) -> None:
    """Move Postgres to the next segment, until it fails."""

    async def fails() -> bool:
        await asyncio.to_thread(on_small_disk.ballast.fill)
        try:
            connection = await asyncpg.connect(
                on_small_disk.installation.services.postgres, timeout=5, command_timeout=5
            )
            try:
                for _ in range(20):
                    await connection.execute("SELECT pg_logical_emit_message(true, 'test', 'moves the log on')")
                    await connection.execute("SELECT pg_switch_wal()")
            finally:
                connection.terminate()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return True
        return False

    await until(fails, "Postgres can't go on")
