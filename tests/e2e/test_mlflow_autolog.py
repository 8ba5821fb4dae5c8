"""A scikit-learn training that knows nothing of Runfold, under MLflow's autolog."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from shared_world import shared_installation, start_together

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services import Services

SCRIPT = """
import mlflow
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

mlflow.sklearn.autolog(log_models=False, max_tuning_runs=3)
x, y = load_digits(return_X_y=True)

mlflow.set_experiment("digits")
LogisticRegression(C=0.5, max_iter=200).fit(x / 16, y)

mlflow.set_experiment("digits, own run")
with mlflow.start_run(run_name="mine"):
    LogisticRegression(C=0.5, max_iter=200).fit(x / 16, y)

mlflow.set_experiment("iris")
GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3]}).fit(*load_iris(return_X_y=True))
"""

PATIENCE_SECONDS = 120
"""A training whose refused uploads are tried again takes many minutes: MLflow's client pauses longer and longer."""

needs_artifacts = pytest.mark.xfail(
    strict=True,
    reason="autolog uploads estimator.html unguarded before it sends the training metrics, and gives up what follows when "
    "the upload is refused: no training metrics, FAILED, no children of a search. It needs artifacts, which are not served yet",
)


@pytest.fixture(scope="module")
def url(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("mlflow_autolog")
    with shared_installation(services, "mlflow_autolog", directory) as installation:
        _, server = start_together(installation, "worker", "server")
        yield server.url


@pytest.fixture(scope="module")
def trained(url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where three trainings were logged. Nothing raised, printed a traceback, or left a file behind."""
    directory = tmp_path_factory.mktemp("training")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=directory,
        env={**os.environ, "MLFLOW_TRACKING_URI": url},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(directory.iterdir())
    return url


def runs_of(url: str, experiment: str) -> list[Any]:
    client = MlflowClient(url)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


fits = pytest.mark.parametrize("experiment", ["digits", "digits, own run"])


@fits
def test_a_fit_leaves_its_params_and_data(trained: str, experiment: str) -> None:
    (run,) = runs_of(trained, experiment)
    assert run.data.params.items() >= {"C": "0.5", "max_iter": "200", "solver": "lbfgs"}.items()
    assert run.data.tags["estimator_name"] == "LogisticRegression"
    (data,) = run.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "train"}
    assert run.info.end_time


@fits
@needs_artifacts
def test_a_fit_leaves_its_training_metrics(trained: str, experiment: str) -> None:
    (run,) = runs_of(trained, experiment)
    assert run.data.metrics.keys() >= {"training_accuracy_score", "training_f1_score", "training_log_loss"}
    assert 0.9 < run.data.metrics["training_accuracy_score"] <= 1


def test_a_run_that_the_script_began_is_finished(trained: str) -> None:
    (run,) = runs_of(trained, "digits, own run")
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")


def test_an_upload_is_refused_once_and_not_tried_again(trained: str) -> None:
    with urllib.request.urlopen(f"{trained}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    refused = [line for line in lines if line.startswith("runfold_http_request_seconds_count") and '"501"' in line]
    assert [float(line.rpartition(" ")[2]) for line in refused] == [3.0], "one for each training"


@needs_artifacts
def test_a_run_that_autolog_began_is_finished(trained: str) -> None:
    (run,) = runs_of(trained, "digits")
    assert run.info.status == "FINISHED"


@needs_artifacts
def test_a_parameter_search_leaves_a_run_for_each_try(trained: str) -> None:
    runs = runs_of(trained, "iris")
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.params["max_depth"] for run in children} == {"1", "2", "3"}
    assert all(run.info.status == "FINISHED" and "mean_test_score" in run.data.metrics for run in children)
