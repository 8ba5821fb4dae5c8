"""The SDK straight to Kafka, read back through a server: brokers killed, offline first, sent by both ways."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import warnings
from itertools import count
from typing import TYPE_CHECKING

import pytest
from shared_world import shared_installation, start_together

import runfold
from runfold.leftovers import sync

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from installation import Installation, Program
    from services import Services

_numbers = count(1)


@pytest.fixture(scope="module")
def world(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Program]]:
    with shared_installation(services, "direct", tmp_path_factory.mktemp("direct")) as installation:
        _, server = start_together(installation, "worker", "server")
        yield installation, server


@pytest.fixture
def url(world: tuple[Installation, Program]) -> str:
    return world[1].url


@pytest.fixture
def uri(world: tuple[Installation, Program]) -> str:
    installation, server = world
    return f"kafka://{installation.services.kafka}/{installation.namespace}?api={server.url}"


@pytest.fixture
def name() -> str:
    """Of an experiment that no other test has."""
    return f"experiment {next(_numbers)}"


def history(url: str, run: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(url).get_metric_history(run, key)]


def test_what_goes_straight_to_kafka_is_the_same_run(url: str, uri: str, name: str) -> None:
    with runfold.run(name, params={"lr": 0.1}, tags={"by": "kafka"}, tracking_uri=uri) as run:
        for step in range(1000):
            run.log({"loss": float(step), "acc": step / 1000}, step=step)
        run.log_series("lr", None, [0.1] * 10)
        run.flush()
        assert history(url, run.id, "loss") == [(step, float(step)) for step in range(1000)]
    found = MlflowClient(url).get_run(run.id)
    assert (found.info.status, found.data.params, found.data.tags["by"]) == ("FINISHED", {"lr": "0.1"}, "kafka")
    assert run.url == f"{url}/#/experiments/{found.info.experiment_id}/runs/{run.id}"
    assert not run.spool.exists()


def test_kafka_killed_in_between_loses_nothing_and_repeats_nothing(
    world: tuple[Installation, Program], url: str, uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "120")
    services = world[0].services
    with runfold.run(name, tracking_uri=uri) as run:
        for step in range(3000):
            run.log({"x": float(step)}, step=step)
            if step == 1000:
                run.flush()
                services.kill("kafka", signal.SIGKILL)
        services.wait_ready("kafka")
    assert history(url, run.id, "x") == [(step, float(step)) for step in range(3000)]


def test_one_spool_sent_by_both_ways_counts_once(
    url: str, uri: str, name: str, spool_dir: Path, tmp_path: Path
) -> None:
    with runfold.run(name, params={"a": 1}, mode="offline") as run:
        for step in range(200):
            run.log({"x": float(step)}, step=step)
    shutil.copytree(spool_dir, tmp_path / "copy")
    assert sync(spool_dir, uri).sent == [run.id]
    assert sync(tmp_path / "copy", url).sent == [run.id]
    assert history(url, run.id, "x") == [(step, float(step)) for step in range(200)]
    assert MlflowClient(url).get_run(run.id).data.params == {"a": "1"}


def test_a_namespace_without_a_log_keeps_the_data_and_says_what_is_missing(
    world: tuple[Installation, Program], url: str, name: str, spool_dir: Path
) -> None:
    with runfold.run(name, mode="offline") as run:
        run.log({"x": 1})
    report = sync(spool_dir, f"kafka://{world[0].services.kafka}/never_born?api={url}", patience=3)
    assert list(report.left) == [run.spool], report
    assert "namespace 'never_born'" in report.left[run.spool]
    assert "runfold topics create" in report.left[run.spool]


def test_a_process_that_writes_to_kafka_ends_by_itself(url: str, uri: str, name: str) -> None:
    script = "import sys, runfold\nrun = runfold.run(sys.argv[1])\nrun.log({'m': 1.0})\nprint(run.id, flush=True)\n"
    env = {**os.environ, "RUNFOLD_TRACKING_URI": uri}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, name], env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = MlflowClient(url).get_run(done.stdout.strip())
    assert (found.data.metrics, found.info.status) == ({"m": 1.0}, "FINISHED")
