"""The examples that read the log with nothing of ours: what they print is what was logged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from tests.support.installations.installation import Installation, Program

EXAMPLES = Path(__file__).parents[2] / "examples"
WITHOUT_OURS = """
import runpy, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("runfold"):
            raise AssertionError(f"the example imports {name}")

sys.meta_path.insert(0, Refused())
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def read(example: str, installation: Installation, server: Program) -> str:
    """What an example prints, run where nothing of Runfold can be imported."""
    command = [sys.executable, "-c", WITHOUT_OURS, str(EXAMPLES / example)]
    done = subprocess.run(
        [*command, installation.services.kafka.brokers, server.url, installation.namespace],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], **installation.services.kafka_variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server(installation: Installation) -> Program:
    installation.program("worker")
    return installation.server()


@pytest.fixture
def run_id(server: Program) -> str:
    mlflow.set_tracking_uri(server.url)
    with mlflow.start_run(run_name="öffentlich") as run:
        mlflow.log_params({"lr": 0.1, "layers": 3})
        mlflow.log_metric("loss", 0.25, step=7)
        mlflow.log_metric("loss", 0.125, step=8)
    return str(run.info.run_id)


def test_a_plain_consumer_reads_metrics(installation: Installation, server: Program, run_id: str) -> None:
    told = [line for line in read("read_the_log.py", installation, server).splitlines() if line.startswith(run_id)]
    assert [line.removeprefix(run_id) for line in told] == [
        " 1 rows, step 7: {'loss': 0.25}",
        " 1 rows, step 8: {'loss': 0.125}",
    ]


def test_confluents_own_deserialiser_reads_runs(installation: Installation, server: Program, run_id: str) -> None:
    told = [line.split(" ", 2)[1:] for line in read("read_with_confluent.py", installation, server).splitlines()]
    events = [(kind, eval(value)) for kind, value in told]
    mine = [(kind.split(".")[-1], event) for kind, event in events if event.get("run_id") == run_id]
    assert mine[0][0] == "RunCreated"
    assert mine[0][1]["name"] == "öffentlich"
    params = [event["params"] for kind, event in mine if kind == "ParamsLogged"]
    assert {key: value for each in params for key, value in each.items()} == {"lr": "0.1", "layers": "3"}
    assert mine[-1][1]["status"] == "FINISHED"
    # Every partition begins with its genesis.
    assert [kind for kind, _ in events].count("runfold.log.Genesis") == installation.info.partitions
