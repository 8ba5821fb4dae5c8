"""The unmodified MLflow client asks about the past by the plugin's header."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import pytest
from shared_world import shared_installation, start_together

from runfold.mlflow_past import VARIABLE, AsOfHeader

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.request_header import registry

if TYPE_CHECKING:
    from pathlib import Path

    from services import Services


def test_mlflows_client_reads_the_past_and_can_not_write_it(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the entry point does where the package is installed anew.
    if not any(isinstance(one, AsOfHeader) for one in registry._request_header_provider_registry._registry):
        registry._request_header_provider_registry.register(AsOfHeader)
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
        time.sleep(0.05)
        at = str(time.time_ns() // 1_000_000)
        time.sleep(0.05)
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
