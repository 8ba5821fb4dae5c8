"""A log that was born under an older release keeps its feature level until `runfold upgrade`; what needs more says so."""

import asyncio
import json

import pytest
from services import Services
from starlette.testclient import TestClient

from runfold import birth
from runfold.birth import Birth, create_log, upgrade_log
from runfold_projections.migrate import migrate
from runfold_server.app import create_app
from runfold_server.config import ServerConfig
from runfold_server.mlflow.models import LEVEL

MODEL = json.dumps({"artifact_path": "m", "run_id": "r", "utc_time_created": "now", "flavors": {}})
LOG_MODEL = "/api/2.0/mlflow/runs/log-model"


def test_models_need_a_level_that_an_older_log_reaches_by_an_upgrade(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = "older_level"

    async def born() -> None:
        await create_log(services.kafka, namespace, Birth(partitions=1), release="older")
        await migrate(services.postgres, namespace)

    with monkeypatch.context() as older:
        older.setattr(birth, "FEATURE_LEVEL", LEVEL - 1)
        asyncio.run(born())
    config = ServerConfig(services.kafka, services.postgres, namespace, read_wait=0.5)
    with TestClient(create_app(config)) as client:
        answer = client.post(LOG_MODEL, json={"run_id": "r", "model_json": MODEL})
        assert answer.status_code == 501
        assert (
            f"at feature level {LEVEL - 1} and models need {LEVEL}: run `runfold upgrade`" in answer.json()["message"]
        )
    before, after = asyncio.run(upgrade_log(services.kafka, namespace, release="newer"))
    assert (before, after >= LEVEL) == (LEVEL - 1, True)
    with TestClient(create_app(config)) as client:
        # No worker runs here: a run that no row shows is asked for strongly.
        assert client.post(LOG_MODEL, json={"run_id": "r", "model_json": MODEL}).status_code == 503
