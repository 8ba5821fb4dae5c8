"""`import runfold` against server and worker processes, read back through the API and the MLflow client."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import runfold
from tests.support.installations.sdk_fixtures import Deployment, history

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    pass


def read(url: str, run: str) -> Any:
    return MlflowClient(url).get_run(run)


def test_mlflow_reads_what_was_logged(url: str, name: str) -> None:
    with runfold.run(
        experiment=name, params={"lr": 0.1, "net": {"depth": 3}}, name="first", tags={"kind": "e2e"}, tracking_uri=url
    ) as run:
        for step in range(100):
            run.log({"loss": np.float32(1 / (step + 1)), "val": {"acc": step / 100, "top": {"5": True}}}, step=step)
        run.log_params({"late": [1, 2]})
        run.set_tags({"kind": "changed"})
    found = read(url, run.id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert run.experiment_id is not None
    assert MlflowClient(url).get_experiment(run.experiment_id).name == name
    assert found.info.experiment_id == run.experiment_id
    assert found.info.start_time <= found.info.end_time
    assert found.data.params == {"lr": "0.1", "net/depth": "3", "late": "[1, 2]"}
    assert found.data.metrics == {"loss": float(np.float32(0.01)), "val/acc": 0.99, "val/top/5": 1.0}
    assert found.data.tags["kind"] == "changed"
    assert found.data.tags["mlflow.runName"] == "first"
    assert history(url, run.id, "loss") == [(n, float(np.float32(1 / (n + 1)))) for n in range(100)]
    assert run.refused == 0


def test_steps_go_on_by_themselves_and_odd_numbers_count(url: str, name: str) -> None:
    with runfold.run(experiment=name, tracking_uri=url) as run:
        for value in (1.0, math.nan, math.inf):
            run.log({"m": value})
        run.log({"m": 2.0}, step=10)
        run.log({"m": 3.0})
    points = history(url, run.id, "m")
    assert [step for step, _ in points] == [0, 1, 2, 10, 11]
    assert math.isnan(points[1][1])


def test_an_exception_fails_the_run_and_goes_on(url: str, name: str) -> None:
    def train() -> None:
        with run:
            run.log({"before": 1.0})
            run.log({"after": 1 / 0})

    run = runfold.run(experiment=name, tracking_uri=url)
    with pytest.raises(ZeroDivisionError):
        train()
    found = read(url, run.id)
    assert (found.info.status, found.data.metrics) == ("FAILED", {"before": 1.0})


def test_ctrl_c_kills_the_run(url: str, name: str) -> None:
    with pytest.raises(KeyboardInterrupt), runfold.run(experiment=name, tracking_uri=url) as run:
        raise KeyboardInterrupt
    assert read(url, run.id).info.status == "KILLED"


def test_a_changed_param_is_told_at_the_end(url: str, name: str) -> None:
    run = runfold.run(experiment=name, params={"lr": 0.1}, tracking_uri=url, on_rejection="raise")
    run.log_params({"lr": 0.2, "depth": 3})
    run.log({"loss": 0.5})
    with pytest.raises(runfold.ServerRefused, match="ParamsLogged was rejected"):
        run.finish()
    found = read(url, run.id)
    assert (found.info.status, found.data.params, found.data.metrics) == (
        "FINISHED", {"lr": "0.1", "depth": "3"}, {"loss": 0.5},
    )  # fmt: skip


def test_a_deleted_experiment_takes_no_run(url: str, name: str) -> None:
    client = MlflowClient(url)
    client.delete_experiment(client.create_experiment(name))
    with pytest.raises(runfold.ServerRefused, match="deleted"):
        runfold.run(experiment=name, tracking_uri=url)


def test_where_a_server_is_required_the_error_says_what_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_REQUIRE_SERVER", "1")
    with pytest.raises(runfold.NotConnected, match="runfold up"):
        runfold.run(experiment="x", tracking_uri="http://127.0.0.1:9")


def test_what_is_flushed_is_read_at_once(url: str, name: str) -> None:
    run = runfold.run(experiment=name, tracking_uri=url)
    for step in range(5):
        run.log({"m": float(step)}, step=step)
        run.flush()
        assert read(url, run.id).data.metrics == {"m": float(step)}
    run.finish()


def test_servers_that_die_lose_nothing_and_repeat_nothing(
    deployment: Deployment, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    installation, _ = deployment
    server = installation.server()
    kills, rows = 4, 2_000
    run = runfold.run(experiment=name, params={"kills": kills}, tracking_uri=server.url)
    for row in range(rows):
        run.log({"row": float(row)}, step=row)
        time.sleep(0.002)
        if row % (rows // (kills + 1)) == 200:
            server.kill()
            server.start()
    run.set_tags({"late": "yes"})
    run.finish()
    assert run.refused == 0
    found = read(server.url, run.id)
    assert found.info.status == "FINISHED"
    assert (found.data.params, found.data.tags["late"]) == ({"kills": str(kills)}, "yes")
    assert history(server.url, run.id, "row") == [(row, float(row)) for row in range(rows)]
    assert "the server accepts events again" in caplog.text


PROCESS = """
import sys, runfold
with runfold.run(experiment=sys.argv[1], tags={"rank": sys.argv[2]}) as run:
    for step in range(500):
        run.log({"loss": float(step)}, step=step)
print(run.id)
"""


def test_two_processes_log_to_an_experiment_that_both_create(url: str, name: str) -> None:
    env = {**os.environ, "RUNFOLD_TRACKING_URI": url}
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, name, str(rank)], env=env, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    ids = [process.communicate(timeout=60)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["tags.rank ASC"])
    assert [run.info.run_id for run in runs] == ids
    for run in runs:
        assert run.info.status == "FINISHED"
        assert history(url, run.info.run_id, "loss") == [(step, float(step)) for step in range(500)]


def test_threads_share_a_run(url: str, name: str) -> None:
    with runfold.run(experiment=name, tracking_uri=url) as run:

        def log(key: str) -> None:
            for step in range(300):
                run.log({key: float(step)}, step=step)

        threads = [threading.Thread(target=log, args=(f"m{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n in range(4):
        assert history(url, run.id, f"m{n}") == [(step, float(step)) for step in range(300)]


def test_a_script_that_ends_without_finish_ends_its_run(url: str, name: str) -> None:
    script = (
        "import sys, runfold\nrun = runfold.run(experiment=sys.argv[1])\n"
        "run.log({'m': 1.0})\nprint(run.id, flush=True)\n"
    )
    env = {**os.environ, "RUNFOLD_TRACKING_URI": url}
    for ending, status in (("", "FINISHED"), ("raise ValueError", "FAILED")):
        done = subprocess.run(
            [sys.executable, "-c", script + ending, name], env=env, capture_output=True, text=True, timeout=60
        )
        found = read(url, done.stdout.strip())
        assert (found.data.metrics, found.info.status) == ({"m": 1.0}, status)
