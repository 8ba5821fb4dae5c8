"""The unmodified MLflow client asks about the past by the plugin's header."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import httpx2
import pytest

from runfold.mlflow_plugin.as_of_header import VARIABLE, AsOfHeader
from tests.support.installations.shared import shared_installation, start_together

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.request_header import registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.services.running import Services


@pytest.fixture(autouse=True)
def plugin() -> None:
    # As the entry point does where the package is installed anew.
    if not any(isinstance(one, AsOfHeader) for one in registry._request_header_provider_registry._registry):
        registry._request_header_provider_registry.register(AsOfHeader)


def moment() -> str:
    """A millisecond in which nothing happens."""
    time.sleep(0.05)
    at = str(time.time_ns() // 1_000_000)
    time.sleep(0.05)
    return at


def test_mlflows_client_reads_the_past_and_can_not_write_it(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_installation(services, "mlflow_as_of", tmp_path) as installation:
        _, server = start_together(installation, "worker", "server")
        client = MlflowClient(server.url, registry_uri=server.url)
        run = client.create_run("0").info.run_id
        client.log_param(run, "lr", "1")
        client.log_metric(run, "loss", 2.0, step=1)
        client.create_registered_model("m")
        for _ in range(2):
            client.create_model_version("m", "s3://b/m")
        client.set_registered_model_alias("m", "prod", "1")
        at = moment()
        client.set_registered_model_alias("m", "prod", "2")
        client.log_metric(run, "loss", 1.0, step=2)
        client.set_terminated(run)

        def seen() -> tuple[str, dict[str, float], int, str]:
            found = client.get_run(run)
            history = len(client.get_metric_history(run, "loss"))
            version = client.get_model_version_by_alias("m", "prod").version
            return found.info.status, found.data.metrics, history, str(version)

        assert seen() == ("FINISHED", {"loss": 1.0}, 2, "2")
        monkeypatch.setenv(VARIABLE, at)
        assert seen() == ("RUNNING", {"loss": 2.0}, 1, "1")
        with pytest.raises(MlflowException, match="it changes the present"):
            client.set_tag(run, "k", "v")
        monkeypatch.setenv(VARIABLE, "2020-01-01")
        with pytest.raises(MlflowException, match="not found as of runs:"):
            client.get_run(run)
        monkeypatch.delenv(VARIABLE)
        assert seen() == ("FINISHED", {"loss": 1.0}, 2, "2")


def doubled(model_input: list[float]) -> list[float]:
    """Twice its input."""
    return [2 * value for value in model_input]


def tripled(model_input: list[float]) -> list[float]:
    """Three times its input."""
    return [3 * value for value in model_input]


def test_the_model_that_was_in_production_at_a_moment_is_loaded(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_installation(services, "mlflow_as_of_files", tmp_path) as installation:
        _, server = start_together(installation, "worker", "server")
        mlflow.set_tracking_uri(server.url)
        client = MlflowClient(server.url, registry_uri=server.url)
        moments: list[str] = []
        roots: list[str] = []
        for function in (doubled, tripled):
            with warnings.catch_warnings(), mlflow.start_run():
                warnings.simplefilter("ignore")
                made = mlflow.pyfunc.log_model(name="m", python_model=function, pip_requirements=[])
            version = mlflow.register_model(made.model_uri, "m").version
            client.set_registered_model_alias("m", "prod", version)
            moments.append(moment())
            roots.append(made.artifact_path.removeprefix("mlflow-artifacts:/"))
        # All of it goes: the model, and the files.
        client.delete_registered_model("m")
        for root in roots:
            files = f"{server.url}/api/2.0/mlflow-artifacts/artifacts"
            assert httpx2.get(files, params={"path": root}).json()["files"]
            httpx2.delete(f"{files}/{root}").raise_for_status()
            assert httpx2.get(files, params={"path": root}).json() == {}
        with pytest.raises(MlflowException):
            mlflow.pyfunc.load_model("models:/m@prod")
        for at, expected in zip(moments, ([2.0, 4.0], [3.0, 6.0]), strict=True):
            monkeypatch.setenv(VARIABLE, at)
            assert list(mlflow.pyfunc.load_model("models:/m@prod").predict([1.0, 2.0])) == expected
