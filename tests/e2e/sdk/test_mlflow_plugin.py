"""The unmodified MLflow client with the plugin: metrics go to Kafka, the rest to the API, and reads see both."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.installations.in_process import fetch
from tests.support.installations.sdk_fixtures import Deployment, kafka_uri_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["kafka", "http"])
def uri(deployment: Deployment, request: pytest.FixtureRequest) -> str:
    installation, server = deployment
    if request.param == "http":
        return f"runfold+{server.url}"
    return f"runfold+{kafka_uri_of(installation, server)}"


@pytest.fixture
def client(uri: str) -> Iterator[MlflowClient]:
    made = MlflowClient(uri)
    yield made
    made._tracking_client.store.close()


@pytest.fixture
def run_id(client: MlflowClient, name: str) -> str:
    return str(client.create_run(client.create_experiment(name)).info.run_id)


def history(client: MlflowClient, run_id: str, key: str) -> list[tuple[Any, ...]]:
    return [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run_id, key)]


def test_what_is_logged_is_read_at_once_with_its_own_time_and_context(
    client: MlflowClient, run_id: str, deployment: Deployment
) -> None:
    client.log_metric(run_id, "loss", 0.5, timestamp=1234, step=7)
    assert history(client, run_id, "loss") == [(7, 0.5, 1234)]
    client.log_metric(run_id, "acc", 0.9, timestamp=5, step=1, dataset_name="d", dataset_digest="x")
    client.log_metric(run_id, "odd", math.nan)
    data = client.get_run(run_id).data
    assert (data.metrics["loss"], data.metrics["acc"]) == (0.5, 0.9)
    assert math.isnan(data.metrics["odd"])
    # A metric history does not contain datasets, but the read model does.
    query = (
        "SELECT key, model_id, dataset_name, dataset_digest FROM metric WHERE run_id = $1 AND dataset_name IS NOT NULL"
    )
    assert asyncio.run(fetch(deployment[0], query, run_id)) == [("acc", None, "d", "x")]


def test_a_batch_s_params_are_decided_before_its_metrics_are_logged(client: MlflowClient, run_id: str) -> None:
    client.log_batch(run_id, [Metric("m", 1.0, 1, 0)], [Param("p", "1")], [RunTag("t", "x")])
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_batch(run_id, [Metric("m", 2.0, 2, 1)], [Param("p", "2")], [])
    assert history(client, run_id, "m") == [(0, 1.0, 1)]
    data = client.get_run(run_id).data
    assert (data.params, data.tags["t"]) == ({"p": "1"}, "x")


@pytest.mark.parametrize(("key", "time_ms"), [("a;b", 1), ("../up", 1), ("a//b", 1), ("k" * 251, 1), ("late", -1)])
def test_what_mlflow_s_api_refuses_is_refused_in_its_words(
    client: MlflowClient, run_id: str, deployment: Deployment, key: str, time_ms: int
) -> None:
    store = client._tracking_client.store
    plain = MlflowClient(deployment[1].url)._tracking_client.store
    metric = Metric(key, 1.0, time_ms, 0)
    said = []
    for one in (store, plain):
        with pytest.raises(MlflowException) as refused:
            one.log_metric(run_id, metric)
        said.append((refused.value.error_code, str(refused.value).removeprefix("INVALID_PARAMETER_VALUE: ")))
        with pytest.raises(MlflowException):
            one.log_batch(run_id, [Metric("fine", 1.0, 1, 0), metric], [Param("p", "1")], [])
    assert said[0] == said[1]
    data = client.get_run(run_id).data
    assert (data.metrics, data.params) == ({}, {})


def test_metrics_of_no_run_and_of_a_deleted_one_are_refused(client: MlflowClient, run_id: str) -> None:
    with pytest.raises(MlflowException, match="not found"):
        client.log_metric("0" * 32, "m", 1.0)
    client.delete_run(run_id)
    with pytest.raises(MlflowException, match="deleted"):
        client.log_metric(run_id, "m", 1.0)


SCRIPT = """
import mlflow, os, sys
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment(sys.argv[2])
with mlflow.start_run() as run:
    mlflow.log_params({"lr": 0.1})
    for step in range(300):
        mlflow.log_metrics({"loss": float(step), "acc": step / 300}, step=step)
    mlflow.log_metric("late", 1.0, synchronous=False)
    assert mlflow.get_run(run.info.run_id).data.metrics["loss"] == 299.0
print(run.info.run_id)
print(*(path for _, _, files in os.walk(os.environ["RUNFOLD_SPOOL_DIR"]) for path in files))
"""


def test_a_training_in_mlflow_s_own_words(uri: str, deployment: Deployment, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, uri, name],
        env={**os.environ}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    run_id = next(line for line in lines if len(line) == 32)
    assert lines[-1] == "", "the spool is empty at the end"
    plain = MlflowClient(deployment[1].url)
    run = plain.get_run(run_id)
    assert (run.info.status, run.data.params, run.data.metrics["late"]) == ("FINISHED", {"lr": "0.1"}, 1.0)
    assert [(m.step, m.value) for m in plain.get_metric_history(run_id, "loss")] == [(n, float(n)) for n in range(300)]


def test_the_registry_takes_and_gives_models(client: MlflowClient, run_id: str, uri: str, name: str) -> None:
    model = f"churn {name}"
    client.create_registered_model(model, tags={"team": "growth"})
    client.log_text(run_id, "weights", "model/weights.txt")
    version = client.create_model_version(model, f"runs:/{run_id}/model", run_id)
    assert (version.version, version.status) == ("1", "READY")
    client.set_registered_model_alias(model, "prod", "1")
    assert client.get_model_version_by_alias(model, "prod").run_id == run_id
    assert [one.name for one in client.search_registered_models(f"name = '{model}'")] == [model]
    client.delete_registered_model(model)
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(model)


BY_ENVIRONMENT = """
import mlflow, pathlib
with mlflow.start_run() as run:
    mlflow.log_text("text", "deep/a.txt")
    mlflow.log_dict({"a": 1}, "b.json")
print(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/deep/a.txt"))
print([one.path for one in mlflow.artifacts.list_artifacts(run.info.artifact_uri)])
"""


def test_artifacts_are_found_by_the_tracking_uri_of_the_environment(uri: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", BY_ENVIRONMENT],
        env={**os.environ, "MLFLOW_TRACKING_URI": uri}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "text" in lines
    assert "['artifacts/b.json', 'artifacts/deep']" in lines


@pytest.mark.parametrize("other", ["file:///tmp/x", "sqlite:///x.db"])
def test_tracking_uris_that_are_not_ours_are_mlflow_s_own_matter(other: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with pytest.raises(MlflowException, match="the tracking URI must be a valid http or https URI"):
        get_artifact_repository("mlflow-artifacts:/1/run/artifacts", tracking_uri=other)
