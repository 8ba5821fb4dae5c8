"""A scikit-learn training that knows nothing of Runfold, under MLflow's autolog.

Autolog uploads `estimator.html` unguarded, and before it sends the training metrics. So it works unchanged where
artifacts have a place (an S3 store, which `runfold up` starts); where they have none, the training itself must not
suffer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.installations.shared import shared_installation
from tests.support.mlflow.uris import KINDS, mlflow_uri

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.services.running import Services

SCRIPT = """
import sys

import mlflow
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

mlflow.sklearn.autolog(log_models=False, max_tuning_runs=3)
x, y = load_digits(return_X_y=True)

mlflow.set_experiment(f"digits {sys.argv[1]}")
LogisticRegression(C=0.5, max_iter=200).fit(x / 16, y)

mlflow.set_experiment(f"digits, own run {sys.argv[1]}")
with mlflow.start_run(run_name="mine"):
    LogisticRegression(C=0.5, max_iter=200).fit(x / 16, y)

mlflow.set_experiment(f"iris {sys.argv[1]}")
GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3]}).fit(*load_iris(return_X_y=True))
"""

PATIENCE_SECONDS = 120
"""A training whose refused uploads are tried again takes many minutes: MLflow's client pauses longer and longer."""


class Trained(NamedTuple):
    """A server after the script ran against it."""

    url: str


@pytest.fixture(scope="module")
def both(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trained, Trained]]:
    """With a place for artifacts, and without. The script ran to its end, without a traceback or a file left behind."""
    directory, work = (tmp_path_factory.mktemp(name) for name in ("autolog", "work"))
    with shared_installation(services, "mlflow_autolog", directory) as installation:
        worker, rooted = installation.program("worker"), installation.program("server")
        without = installation.program("server", s3_endpoint="", s3_access_key="", s3_secret_key="")
        for program in (worker, without, rooted):
            program.wait_ready()
        trainings = [start_training(mlflow_uri(kind, installation, rooted), kind, work) for kind in KINDS]
        trainings.append(start_training(without.url, "without", work))
        for training in trainings:
            try:
                _, said = training.communicate(timeout=PATIENCE_SECONDS)
            finally:
                training.kill()
            assert training.returncode == 0, said
            assert "Traceback" not in said
        assert not list(work.iterdir())
        yield Trained(rooted.url), Trained(without.url)


@pytest.fixture(scope="module")
def rooted(both: tuple[Trained, Trained]) -> Trained:
    return both[0]


@pytest.fixture(scope="module")
def without(both: tuple[Trained, Trained]) -> Trained:
    return both[1]


def start_training(url: str, name: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name],
        cwd=directory,
        env={**os.environ, "MLFLOW_TRACKING_URI": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs_of(url: str, experiment: str) -> list[Any]:
    client = MlflowClient(url)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("experiment", ["digits", "digits, own run"])
def test_a_fit_leaves_params_metrics_data_and_a_page(rooted: Trained, experiment: str, kind: str) -> None:
    (run,) = runs_of(rooted.url, f"{experiment} {kind}")
    assert run.info.status == "FINISHED"
    assert run.data.params.items() >= {"C": "0.5", "max_iter": "200", "solver": "lbfgs"}.items()
    assert run.data.metrics.keys() >= {"training_accuracy_score", "training_f1_score", "training_log_loss"}
    assert 0.9 < run.data.metrics["training_accuracy_score"] <= 1
    assert run.data.tags["estimator_name"] == "LogisticRegression"
    (data,) = run.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "train"}
    (page,) = MlflowClient(rooted.url).list_artifacts(run.info.run_id)
    assert (page.path, page.is_dir) == ("estimator.html", False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_search_leaves_a_run_for_each_try(rooted: Trained, kind: str) -> None:
    runs = runs_of(rooted.url, f"iris {kind}")
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.data.params["best_max_depth"] in {"1", "2", "3"}
    assert {run.data.params["max_depth"] for run in children} == {"1", "2", "3"}
    assert all(run.info.status == "FINISHED" for run in runs)
    assert all("mean_test_score" in run.data.metrics for run in children)


def test_without_a_place_for_artifacts_params_and_data_are_there(without: Trained) -> None:
    (run,) = runs_of(without.url, "digits, own run without")
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params.items() >= {"C": "0.5", "max_iter": "200", "solver": "lbfgs"}.items()
    assert len(run.inputs.dataset_inputs) == 1


def test_a_refused_upload_is_not_tried_again(without: Trained) -> None:
    with urllib.request.urlopen(f"{without.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    refused = [line for line in lines if line.startswith("runfold_http_request_seconds_count") and '"501"' in line]
    assert [float(line.rpartition(" ")[2]) for line in refused] == [3.0], "one for each training"
