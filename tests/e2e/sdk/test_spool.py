"""The spool with real servers, a real worker and the real command: offline, killed, copied, synced."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING

import pytest

import runfold
from tests.support.installations.sdk_fixtures import Deployment, command, history
from tests.support.services.small_disk import BLOCK, Ballast, small_disk

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from pathlib import Path


def test_an_offline_run_is_whole_after_a_sync_and_a_second_copy_changes_nothing(
    url: str, name: str, spool_dir: Path, tmp_path: Path
) -> None:
    with runfold.run(name, params={"lr": 0.1}, tags={"where": "train"}, name="far away", mode="offline") as run:
        for step in range(500):
            run.log({"loss": float(step)}, step=step)
    shutil.copytree(spool_dir, tmp_path / "copy")
    for where in (spool_dir, tmp_path / "copy"):
        done = command("sync", str(where), "--to", url)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "1 spools sent: 500 points, 3 facts\n"
        assert [path for path in where.rglob("*") if path.is_file()] == []
        found = MlflowClient(url).get_run(run.id)
        assert (found.info.status, found.info.run_name, found.data.params) == ("FINISHED", "far away", {"lr": "0.1"})
        assert history(url, run.id, "loss") == [(step, float(step)) for step in range(500)]
    assert MlflowClient(url).get_experiment(found.info.experiment_id).name == name


def test_a_sync_without_a_server_keeps_everything_and_fails(name: str, spool_dir: Path) -> None:
    with runfold.run(name, mode="offline") as run:
        run.log({"x": 1})
    done = command("sync", "--patience", "0.5", env={"RUNFOLD_TRACKING_URI": "http://127.0.0.1:9"})
    assert done.returncode == 1
    assert re.search(rf"not sent: {run.spool}: .*127\.0\.0\.1:9 does not answer", done.stderr)
    assert run.spool.is_dir()


def test_a_sync_of_nothing_says_so(spool_dir: Path, tmp_path: Path) -> None:
    assert (command("sync").returncode, command("sync").stdout) == (0, "nothing to send\n")
    done = command("sync", str(tmp_path / "nowhere"))
    assert (done.returncode, "is not a directory" in done.stderr) == (1, True)


TRAINER = """
import sys, time, runfold
with runfold.run(sys.argv[1]) as run:
    print(run.id, flush=True)
    for step in range(10**9):
        run.log({"x": float(step)}, step=step)
        if step % 100 == 0:
            print(time.monotonic(), step, flush=True)
        if step % 10 == 0:
            time.sleep(0.002)
"""


def test_trainers_and_servers_that_are_killed_lose_at_most_a_second_and_repeat_nothing(
    deployment: Deployment, url: str, name: str, spool_dir: Path
) -> None:
    server = deployment[0].server()
    chance = random.Random(1)
    sure: dict[str, int] = {}
    for number in range(3):
        env = {**os.environ, "RUNFOLD_TRACKING_URI": server.url}
        trainer = subprocess.Popen([sys.executable, "-c", TRAINER, name], env=env, stdout=subprocess.PIPE, text=True)
        assert trainer.stdout is not None
        run_id = trainer.stdout.readline().strip()
        time.sleep(0.5 + chance.random())
        if number == 1:
            server.kill()
            server.start()
        time.sleep(1.1 + chance.random())
        trainer.send_signal(signal.SIGKILL)
        told = [line.split() for line in trainer.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
        killed_at = time.monotonic()
        sure[run_id] = max(int(step) for at, step in told if float(at) < killed_at - 1.1)
    server.wait_ready()
    done = command("sync", str(spool_dir))
    assert done.returncode == 0, done.stderr
    for run_id, step in sure.items():
        points = history(url, run_id, "x")
        assert points == [(n, float(n)) for n in range(len(points))]
        assert len(points) > step > 0


def test_a_full_disk_refuses_and_counts_and_what_was_taken_arrives_when_there_is_room(
    url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNFOLD_BUFFER_MB", "4")
    with small_disk(tmp_path / "disk", 24) as disk:
        monkeypatch.setenv("RUNFOLD_SPOOL_DIR", str(disk / "spool"))
        ballast = Ballast(disk)
        with runfold.run(name, mode="offline") as run:
            ballast.fill(leave=2 * BLOCK)
            for step in range(100_000):
                run.log({f"k{n}": float(step) for n in range(10)}, step=step)
                if run.refused:
                    break
                if step % 1000 == 0:
                    run._writer._flusher.save()
            assert "can't be written to the spool and is kept in memory: [Errno 28]" in caplog.text
            taken = step
            assert taken > 1000
            ballast.drop()
            run.flush(timeout=30)
            run.log({"after": 1.0}, step=step)
        assert run.refused == 10
        done = command("sync", str(disk / "spool"), "--to", url)
        assert done.stdout == f"1 spools sent: {taken * 10 + 1} points, 2 facts\n", done.stderr
    assert history(url, run.id, "k9") == [(step, float(step)) for step in range(taken)]
    assert history(url, run.id, "after") == [(taken, 1.0)]


def test_a_run_that_began_without_a_server_is_there_when_one_has_come(
    deployment: Deployment, url: str, name: str
) -> None:
    server = deployment[0].server()
    server.kill()
    run = runfold.run(name, tracking_uri=server.url)
    for step in range(100):
        run.log({"x": float(step)}, step=step)
    server.start()
    run.finish()
    assert history(url, run.id, "x") == [(step, float(step)) for step in range(100)]
    assert MlflowClient(url).get_run(run.id).info.experiment_id == run.experiment_id
