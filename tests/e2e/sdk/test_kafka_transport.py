"""The Kafka transport, read back through a server: killed brokers, offline starts, both transports for one run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest

import runfold
from runfold.pipeline.spool_sync import sync
from tests.support.installations.sdk_fixtures import Deployment, history

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from pathlib import Path


def test_what_goes_straight_to_kafka_is_the_same_run(url: str, kafka_uri: str, name: str) -> None:
    with runfold.run(name, params={"lr": 0.1}, tags={"by": "kafka"}, tracking_uri=kafka_uri) as run:
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
    deployment: Deployment, url: str, kafka_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "120")
    services = deployment[0].services
    with runfold.run(name, tracking_uri=kafka_uri) as run:
        for step in range(3000):
            run.log({"x": float(step)}, step=step)
            if step == 1000:
                run.flush()
                services.kill("kafka", signal.SIGKILL)
        services.wait_ready("kafka")
    assert history(url, run.id, "x") == [(step, float(step)) for step in range(3000)]


def test_one_spool_sent_by_both_ways_counts_once(
    url: str, kafka_uri: str, name: str, spool_dir: Path, tmp_path: Path
) -> None:
    with runfold.run(name, params={"a": 1}, mode="offline") as run:
        for step in range(200):
            run.log({"x": float(step)}, step=step)
    shutil.copytree(spool_dir, tmp_path / "copy")
    assert sync(spool_dir, kafka_uri).sent == [run.id]
    assert sync(tmp_path / "copy", url).sent == [run.id]
    assert history(url, run.id, "x") == [(step, float(step)) for step in range(200)]
    assert MlflowClient(url).get_run(run.id).data.params == {"a": "1"}


def test_a_namespace_without_a_log_keeps_the_data_and_says_what_is_missing(
    deployment: Deployment, url: str, name: str, spool_dir: Path
) -> None:
    with runfold.run(name, mode="offline") as run:
        run.log({"x": 1})
    report = sync(spool_dir, f"kafka://{deployment[0].services.kafka}/never_born?api={url}", patience=3)
    assert list(report.left) == [run.spool], report
    assert "namespace 'never_born'" in report.left[run.spool]
    assert "runfold topics create" in report.left[run.spool]


def test_a_process_that_writes_to_kafka_ends_by_itself(url: str, kafka_uri: str, name: str) -> None:
    script = "import sys, runfold\nrun = runfold.run(sys.argv[1])\nrun.log({'m': 1.0})\nprint(run.id, flush=True)\n"
    # A host name, which must be resolved while the interpreter shuts down.
    env = {**os.environ, "RUNFOLD_TRACKING_URI": kafka_uri.replace("127.0.0.1", "localhost")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, name], env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = MlflowClient(url).get_run(done.stdout.strip())
    assert (found.data.metrics, found.info.status) == ({"m": 1.0}, "FINISHED")
