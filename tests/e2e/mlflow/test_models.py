"""The unmodified MLflow client logs models, measures them and loads them back: scikit-learn, a Python function,
checkpoints.
"""

from __future__ import annotations

import json
import pickle
import warnings
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.support.installations.shared import shared_installation, start_together
from tests.support.mlflow.uris import KINDS, mlflow_uri

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow import MlflowClient
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import LoggedModelStatus
    from mlflow.exceptions import MlflowException

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.services.running import Services

X, Y = load_iris(return_X_y=True)
_numbers = count(1)


@pytest.fixture(scope="module", params=KINDS)
def url(services: Services, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """The tracking URI; each kind has an installation of its own, since the tests name models."""
    name = f"mlflow_models_{KINDS.index(request.param)}"
    with shared_installation(services, name, tmp_path_factory.mktemp("models")) as installation:
        _, server = start_together(installation, "worker", "server")
        yield mlflow_uri(request.param, installation, server)


@pytest.fixture(autouse=True)
def experiment(url: str) -> Iterator[str]:
    """An experiment that no other test has, set for scripts; gives its id."""
    mlflow.set_tracking_uri(url)
    yield mlflow.set_experiment(f"models {next(_numbers)}").experiment_id
    mlflow.clear_active_model()
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="module")
def classifier() -> LogisticRegression:
    return LogisticRegression(max_iter=200).fit(X, Y)


def log(classifier: LogisticRegression, **fields: Any) -> Any:
    # Without pip_requirements the client imports the model in a process of its own, to find out what it needs.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlflow.sklearn.log_model(
            classifier, pip_requirements=[], serialization_format="cloudpickle", **({"name": "classifier"} | fields)
        )


def test_a_scikit_learn_model_comes_back_and_is_an_output_of_its_run(
    url: str, experiment: str, classifier: LogisticRegression
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_param("max_iter", 200)
        mlflow.log_metric("accuracy", classifier.score(X, Y), step=0)
        info = log(classifier, input_example=X[:2])
    assert info.model_uri == f"models:/{info.model_id}"
    assert (mlflow.sklearn.load_model(info.model_uri).predict(X) == classifier.predict(X)).all()
    assert (mlflow.pyfunc.load_model(info.model_uri).predict(X) == classifier.predict(X)).all()
    model = mlflow.get_logged_model(info.model_id)
    assert (model.name, model.status, model.source_run_id) == ("classifier", LoggedModelStatus.READY, run.info.run_id)
    assert (model.experiment_id, model.params["max_iter"]) == (experiment, "200")
    assert model.artifact_location == f"mlflow-artifacts:/{experiment}/models/{info.model_id}/artifacts"
    # The client copies the run's metrics of the model's step to the model.
    assert [(m.key, m.step, m.run_id) for m in model.metrics or ()] == [("accuracy", 0, run.info.run_id)]
    made = MlflowClient(url).get_run(run.info.run_id)
    assert made.outputs is not None
    assert [(output.model_id, output.step) for output in made.outputs.model_outputs] == [(info.model_id, 0)]
    assert made.data.metrics == {"accuracy": classifier.score(X, Y)}
    assert len(MlflowClient(url).get_metric_history(run.info.run_id, "accuracy")) == 1, "the copied point is the same"


def test_a_models_files_are_listed_under_its_name_in_the_run_and_downloaded_by_its_id(
    url: str, classifier: LogisticRegression, tmp_path: Path
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("x", "notes.txt")
        info = log(classifier)
    client = MlflowClient(url)
    assert {file.path for file in client.list_artifacts(run.info.run_id, "classifier")} >= {"classifier/MLmodel"}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["notes.txt"]
    names = {file.path for file in client.list_logged_model_artifacts(info.model_id)}
    assert {"MLmodel", "model.pkl", "requirements.txt"} <= names
    folder = mlflow.artifacts.download_artifacts(info.model_uri, dst_path=str(tmp_path))
    assert (mlflow.sklearn.load_model(folder).predict(X) == classifier.predict(X)).all()
    assert (mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/classifier").predict(X) == classifier.predict(X)).all()


def doubled(model_input: list[float]) -> list[float]:
    """Twice its input."""
    return [2 * value for value in model_input]


@pytest.mark.filterwarnings("ignore")
def test_a_python_function_is_a_model(experiment: str) -> None:
    info = mlflow.pyfunc.log_model(name="doubled", python_model=doubled, pip_requirements=[])
    assert mlflow.pyfunc.load_model(info.model_uri).predict([1.0, 2.0]) == [2.0, 4.0]
    assert mlflow.get_logged_model(info.model_id).experiment_id == experiment


def test_the_best_checkpoint_on_a_data_set_is_a_search(experiment: str, classifier: LogisticRegression) -> None:
    digits, iris = (
        MetaDataset(HTTPDatasetSource(f"https://example.org/{name}.csv"), name=name, digest=f"{name}-1")  # type: ignore[abstract]
        for name in ("digits", "iris")
    )
    ids = []
    with mlflow.start_run():
        for step, (on_iris, on_digits) in enumerate([(0.5, 0.9), (0.8, 0.7), (0.7, 0.1)]):
            model = mlflow.initialize_logged_model(f"checkpoint-{step}", tags={"step": str(step)})
            mlflow.log_metric("acc", on_iris, step=step, model_id=model.model_id, dataset=iris)
            mlflow.log_metric("acc", on_digits, step=step, model_id=model.model_id, dataset=digits)
            mlflow.finalize_logged_model(model.model_id, "READY")
            ids.append(model.model_id)
        log(classifier)

    def found(**search: Any) -> list[int]:
        models = mlflow.search_logged_models([experiment], output_format="list", **search)
        return [ids.index(model.model_id) for model in models]

    iris_only = [{"dataset_name": "iris", "dataset_digest": "iris-1"}]
    best = [{"field_name": "metrics.acc", "ascending": False, **iris_only[0]}]
    assert found(filter_string="metrics.acc > 0.6", datasets=iris_only, order_by=best) == [1, 2]
    assert found(filter_string="metrics.acc > 0.6", datasets=[{"dataset_name": "digits"}]) == [1, 0]
    assert found(filter_string="tags.step IN ('0', '2')", order_by=[{"field_name": "name"}]) == [0, 2]
    table = mlflow.search_logged_models([experiment], max_results=2, filter_string="name LIKE 'checkpoint-%'")
    assert sorted(table["name"]) == ["checkpoint-1", "checkpoint-2"]
    on = {(m.dataset_name, m.dataset_digest): m.value for m in mlflow.get_logged_model(ids[0]).metrics or ()}
    assert on == {("iris", "iris-1"): 0.5, ("digits", "digits-1"): 0.9}


def test_metrics_of_an_active_model_are_its_own(experiment: str) -> None:
    model = mlflow.set_active_model(name="agent")
    with mlflow.start_run():
        for step in range(3):
            mlflow.log_metrics({"a": step, "b": -step}, step=step)
    found = mlflow.get_logged_model(model.model_id)
    assert {(m.key, m.value, m.step) for m in found.metrics or ()} == {("a", 2.0, 2), ("b", -2.0, 2)}
    assert found.experiment_id == experiment


def test_an_upload_that_fails_leaves_a_failed_model(experiment: str, classifier: LogisticRegression) -> None:
    class Unpicklable:
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    with mlflow.start_run():
        log(classifier, name="fine")
        with pytest.raises(pickle.PicklingError, match="not this one"):
            log(Unpicklable())
    states = {model.name: model.status for model in mlflow.search_logged_models([experiment], output_format="list")}
    assert states == {"fine": LoggedModelStatus.READY, "classifier": LoggedModelStatus.FAILED}


def test_a_deleted_model_is_gone_and_says_so(url: str, experiment: str) -> None:
    model = mlflow.initialize_logged_model("short")
    mlflow.set_logged_model_tags(model.model_id, {"a": "1"})
    mlflow.delete_logged_model_tag(model.model_id, "a")
    MlflowClient(url).delete_logged_model(model.model_id)
    with pytest.raises(MlflowException, match=f"Logged model with ID '{model.model_id}' not found"):
        mlflow.get_logged_model(model.model_id)
    assert mlflow.search_logged_models([experiment], output_format="list") == []


def test_a_registered_model_is_loaded_by_version_alias_and_id(url: str, classifier: LogisticRegression) -> None:
    client = MlflowClient(url)
    with mlflow.start_run() as run:
        info = log(classifier, registered_model_name="iris")
    again = mlflow.register_model(info.model_uri, "iris", tags={"a": "1"})
    assert (info.registered_model_version, again.version) == ("1", "2")
    client.set_registered_model_alias("iris", "prod", "2")
    for uri in ("models:/iris/1", "models:/iris/2", "models:/iris@prod", "models:/iris/latest"):
        assert (mlflow.pyfunc.load_model(uri).predict(X) == classifier.predict(X)).all(), uri
    version = client.get_model_version_by_alias("iris", "prod")
    assert (version.version, version.run_id) == ("2", run.info.run_id)
    assert version.source == f"models:/{info.model_id}"
    held = json.loads(client.get_logged_model(info.model_id).tags["mlflow.modelVersions"])
    assert [(one["name"], str(one["version"])) for one in held] == [("iris", "1"), ("iris", "2")]


def test_a_version_made_without_the_fluent_api_is_in_the_models_tag_too(
    url: str, classifier: LogisticRegression
) -> None:
    client = MlflowClient(url)
    info = log(classifier)
    client.create_registered_model("by hand")
    client.create_model_version("by hand", info.model_uri, model_id=info.model_id)
    held = json.loads(client.get_logged_model(info.model_id).tags["mlflow.modelVersions"])
    assert held == [{"name": "by hand", "version": 1}]
    with pytest.raises(MlflowException, match="not found"):
        client.create_model_version("by hand", "models:/m-0", model_id="m-0")


def test_any_file_is_a_model(url: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(range(256)) * 100)
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(weights), "model")
    client = MlflowClient(url)
    client.create_registered_model("weights")
    uri = f"runs:/{run.info.run_id}/model"
    version = client.create_model_version("weights", uri, run_id=run.info.run_id)
    assert (version.version, version.source) == ("1", uri)
    back = Path(mlflow.artifacts.download_artifacts("models:/weights/1", dst_path=str(tmp_path / "back")))
    assert (back / "weights.bin").read_bytes() == weights.read_bytes()
