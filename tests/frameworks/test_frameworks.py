"""Real trainings by MLflow's integrations, over http and over both URIs of the plugin.

`make test-frameworks` installs what they need.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.installations.framework_trainings import (
    BIN,
    PYTHON,
    TRAININGS,
    complaints,
    experiment_id_of,
    trained,
)
from tests.support.installations.installation import free_port
from tests.support.installations.sdk_fixtures import Deployment
from tests.support.mlflow.uris import KINDS, mlflow_uri

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


pytestmark = pytest.mark.timeout(900)


class Trained(NamedTuple):
    """What a training left, and what it said last."""

    said: dict[str, Any]
    client: MlflowClient
    runs: dict[str, Any]
    """By name."""

    def files(self, run: Any, path: str | None = None) -> set[str]:
        """All artifacts of a run."""
        found = set()
        for one in self.client.list_artifacts(run.info.run_id, path):
            found |= self.files(run, one.path) if one.is_dir else {one.path}
        return found

    def history(self, run: Any, key: str) -> list[int]:
        """The steps of a metric."""
        return [point.step for point in self.client.get_metric_history(run.info.run_id, key)]


@pytest.fixture(params=KINDS)
def train(deployment: Deployment, request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Any:
    """Run one of the trainings in an experiment of its own; nothing may have gone wrong with the tracker."""

    def run(program: str, *more: str, by: Sequence[str | Path] = (PYTHON,)) -> Trained:
        uri = mlflow_uri(request.param, *deployment)
        done = trained(uri, [*by, TRAININGS / f"{program}.py", name, *more], tmp_path)
        assert complaints(done.stdout + done.stderr) == []
        client = MlflowClient(deployment[1].url)
        runs = client.search_runs([experiment_id_of(client, name)])
        assert {one.info.status for one in runs} == {"FINISHED"}
        by_name = {one.info.run_name: one for one in runs}
        assert len(by_name) == len(runs)
        return Trained(json.loads(done.stdout.splitlines()[-1]), client, by_name)

    return run


def test_xgboost_s_autolog(train: Any, name: str) -> None:
    left = train("xgboost_autolog")
    assert left.said == {"same": True, "served": True}
    assert len(left.runs) == 2, "one of train(), one of fit()"
    (run,) = (one for one in left.runs.values() if "train-logloss" in one.data.metrics)
    assert set(left.history(run, "train-logloss")) >= set(range(20))
    assert run.data.params.items() >= {"max_depth": "2", "num_boost_round": "20", "early_stopping_rounds": "5"}.items()
    assert {"feature_importance_gain.png", "feature_importance_weight.json"} <= left.files(run)
    versions = left.client.search_model_versions(f"name = '{name} booster'")
    assert {one.run_id for one in versions} == {one.info.run_id for one in left.runs.values()}


def test_lightning_s_logger_with_all_checkpoints(train: Any) -> None:
    left = train("lightning_logger")
    assert left.said["same"]
    run = left.runs["mine"]
    assert left.history(run, "train_loss") == list(range(12))
    assert left.history(run, "val_loss") == [3, 7, 11]
    assert (run.data.params["hidden"], run.data.tags["team"]) == ("8", "x")
    stored = {path for path in left.files(run) if path.endswith(".ckpt")}
    assert stored == {f"epoch={n}/epoch={n}.ckpt" for n in range(3)}


def test_lightning_under_autolog_with_checkpoints(train: Any) -> None:
    left = train("lightning_autolog")
    assert left.said["same"] == [True, True]
    run = left.runs["mine"]
    assert left.history(run, "val_loss") == [0, 1, 2]
    assert run.data.params["optimizer_name"] == "SGD"
    assert {f"checkpoints/epoch_{n}/checkpoint.pth" for n in range(3)} <= left.files(run)


def test_the_hugging_face_trainer(train: Any) -> None:
    left = train("hf_trainer")
    assert left.said["same"]
    run = left.runs["mine"]
    assert left.history(run, "loss") == list(range(1, 9))
    assert left.history(run, "eval_loss") == [4, 8]
    assert run.data.params.items() >= {"num_train_epochs": "2", "hidden_size": "16"}.items()
    # It logs each checkpoint's folder as a model of that name.
    assert "checkpoint-8/artifacts/checkpoint-8/model.safetensors" in left.files(run, "checkpoint-8")


def test_lightning_s_logger_under_ddp_is_one_run(train: Any) -> None:
    left = train("lightning_logger", "2")
    assert left.said["same"]
    (run,) = left.runs.values()
    assert left.history(run, "train_loss") == list(range(6))
    assert {path for path in left.files(run) if path.endswith(".ckpt")} == {
        f"epoch={n}/epoch={n}.ckpt" for n in range(3)
    }


def test_the_hugging_face_trainer_under_torchrun_is_one_run(train: Any) -> None:
    port = f"--master-port={free_port()}"
    left = train("hf_trainer", by=[BIN / "torchrun", "--nproc-per-node=2", port])
    assert left.said["same"]
    (run,) = left.runs.values()
    assert left.history(run, "loss") == list(range(1, 5))


def test_evaluations(train: Any) -> None:
    left = train("evaluation")
    assert set(left.runs) == {"classifier", "regressor", "table"}
    for name, key in (("classifier", "accuracy_score"), ("regressor", "r2_score"), ("table", "right")):
        run_id, value, artifacts = left.said[name]
        run = left.runs[name]
        assert (run.info.run_id, run.data.metrics[key]) == (run_id, value)
        files = left.files(run)
        assert all(any(artifact in path for path in files) for artifact in artifacts), (artifacts, files)
    assert "confusion_matrix" in left.said["classifier"][2]
    assert left.runs["classifier"].inputs.dataset_inputs
