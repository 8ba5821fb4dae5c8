"""Runs that continue after their end, rejections, and MLflow's client next to the SDK, with real services."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import runfold
from tests.support.installations.sdk_fixtures import Deployment, history

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient


def read(url: str, run: str) -> Any:
    return MlflowClient(url).get_run(run)


def fail(run: runfold.Run) -> None:
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError


def test_a_run_that_is_resumed_runs_without_an_end_and_keeps_what_was_not_refused(
    url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = runfold.run(name, params={"epochs": 10, "lr": 0.1}, name="first", tags={"a": 1}, tracking_uri=url)
    fail(run)
    assert read(url, run.id).info.status == "FAILED"
    assert read(url, run.id).info.end_time
    with runfold.run(
        run_id=run.id, params={"epochs": 20, "seed": 3}, name="second", tags={"b": 2}, tracking_uri=url, start_step=5
    ) as again:
        again.log({"x": 1})
        again.flush()
        found = read(url, run.id)
        assert (found.info.status, found.info.end_time, found.info.run_name) == ("RUNNING", None, "second")
        assert again.experiment_id == found.info.experiment_id
    found = read(url, run.id)
    assert found.info.status == "FINISHED"
    assert found.info.end_time >= found.info.start_time
    assert found.data.params == {"epochs": "10", "lr": "0.1", "seed": "3"}
    assert (found.data.tags["a"], found.data.tags["b"]) == ("1", "2")
    assert history(url, run.id, "x") == [(6, 1.0)]
    assert "Changing param values is not allowed" in caplog.text


def test_another_experiment_than_the_run_s_is_refused_at_the_start(url: str, name: str) -> None:
    with runfold.run(name, tracking_uri=url) as run:
        pass
    with pytest.raises(runfold.ServerRefused, match=f"belongs to experiment '{name}', not 'wrong {name}'"):
        runfold.run(f"wrong {name}", run_id=run.id, tracking_uri=url)
    assert MlflowClient(url).get_experiment_by_name(f"wrong {name}") is None


RANK = """
import sys, runfold
run = runfold.run(sys.argv[1])
run.log({"loss": 1.0})
run.flush()
print(run.id, flush=True)
sys.stdin.readline()
sys.exit(int(sys.argv[2]))
"""


def launch(url: str, name: str, rank: int, restart: int, code: int) -> subprocess.Popen[str]:
    env = {
        **os.environ, "RUNFOLD_TRACKING_URI": url, "TORCHELASTIC_RUN_ID": f"job of {name}",
        "TORCHELASTIC_RESTART_COUNT": str(restart), "RANK": str(rank), "WORLD_SIZE": "2",
    }  # fmt: skip
    command = [sys.executable, "-c", RANK, name, str(code)]
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_job_that_is_restarted_runs_until_rank_0_ends_it_whenever_the_others_do(url: str, name: str) -> None:
    first = [launch(url, name, rank, 0, code=1) for rank in range(2)]
    (run_id,) = {told(process) for process in first}
    for process in first:
        process.communicate("\n", timeout=60)
    # Outside of a `with` block, sys.exit(1) fails a run as it does inside.
    assert read(url, run_id).info.status == "FAILED"
    late, zero = (launch(url, name, rank, 1, code=0) for rank in (1, 0))
    assert told(late) == told(zero) == run_id
    assert (read(url, run_id).info.status, read(url, run_id).info.end_time) == ("RUNNING", None)
    zero.communicate("\n", timeout=60)
    ended = read(url, run_id).info
    assert ended.status == "FINISHED"
    late.communicate("\n", timeout=60)
    assert read(url, run_id).info.end_time == ended.end_time


def test_a_colleague_who_deletes_the_run_does_not_end_the_training(
    url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with runfold.run(name, tracking_uri=url) as run:
        run.log({"x": 1})
        MlflowClient(url).delete_run(run.id)
        run.set_tags({"a": 1})
        run.log({"x": 2})
    assert "must be in the 'active' state" in caplog.text
    MlflowClient(url).restore_run(run.id)
    assert read(url, run.id).info.status == "RUNNING"


@pytest.mark.parametrize("attempt", range(5))
def test_mlflow_s_client_can_log_an_artifact_right_after_the_start(
    deployment: Deployment, url: str, name: str, tmp_path: Path, attempt: int
) -> None:
    (tmp_path / "note.txt").write_text("first thing")
    client = MlflowClient(url)
    with runfold.run(f"{name} {attempt}", tracking_uri=url) as run:
        client.log_artifact(run.id, str(tmp_path / "note.txt"))
        assert [file.path for file in client.list_artifacts(run.id)] == ["note.txt"]


def test_a_param_that_changes_costs_no_other_straight_to_kafka(url: str, kafka_uri: str, name: str) -> None:
    with runfold.run(name, params={"epochs": 10}, tracking_uri=kafka_uri) as run:
        pass
    with runfold.run(run_id=run.id, params={"epochs": 20, "seed": 3}, tracking_uri=kafka_uri):
        pass
    assert read(url, run.id).data.params == {"epochs": "10", "seed": "3"}
