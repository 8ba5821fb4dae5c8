"""Runs, numbers and histories as MLflow's JSON."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from runfold_projections.runs.queries import Dataset, LatestMetric, Run
from runfold_projections.series.latest import MetricHistory
from runfold_server.mlflow.answers.metrics import encode_history
from runfold_server.mlflow.answers.runs import encode_run
from runfold_server.mlflow.answers.values import encode_number, encode_page

RUN = Run(
    run_id="r",
    experiment_id=3,
    name="n",
    user_id="",
    status="RUNNING",
    start_ms=0,
    end_ms=None,
    lifecycle_stage="active",
    artifact_uri="mlflow-artifacts:/3/r/artifacts",
    params={},
    tags={"b": "2", "a": "1"},
    metrics=[LatestMetric("m", math.inf, -1, 5, None, None, None)],
    datasets=[Dataset("d", "x", "local", "{}", None, None, {})],
    models=[],
)


def test_a_run_as_mlflow_shows_it() -> None:
    shown = msgspec.to_builtins(encode_run(RUN))
    assert shown["info"] == {
        "run_uuid": "r",
        "run_id": "r",
        "experiment_id": "3",
        "run_name": "n",
        "user_id": "",
        "status": "RUNNING",
        "start_time": 0,
        "artifact_uri": "mlflow-artifacts:/3/r/artifacts",
        "lifecycle_stage": "active",
    }
    assert shown["data"] == {
        "metrics": [{"key": "m", "value": 1.7976931348623157e308, "timestamp": 5, "step": -1}],
        "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}],
    }
    dataset = {"name": "d", "digest": "x", "source_type": "local", "source": "{}"}
    assert shown["inputs"] == {"dataset_inputs": [{"dataset": dataset}]}
    assert shown["outputs"] == {}


def test_numbers_that_json_lacks() -> None:
    assert encode_number(math.nan) == "NaN"
    assert encode_number(-math.inf) == -1.7976931348623157e308


def test_a_page_of_a_history() -> None:
    rows = MetricHistory(np.array([1, 2, 3]), np.array([10, 20, 30]), np.array([0.5, math.nan, 1.0]))
    assert msgspec.to_builtins(encode_history("k", rows, 1, 3)) == [
        {"key": "k", "value": "NaN", "timestamp": 20, "step": 2},
        {"key": "k", "value": 1.0, "timestamp": 30, "step": 3},
    ]
    assert encode_page("metrics", [], None) == {}
