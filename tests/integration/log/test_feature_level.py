"""A log created by an older release keeps its feature level until `runfold upgrade`; newer features say so."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from runfold.pipeline.encoder import RunEncoder
from runfold.transports.http import HttpTransport
from runfold.transports.kafka import KafkaTransport
from runfold_log import admin
from runfold_log.admin import create_log, open_log, upgrade_log
from runfold_log.topics import LogSettings
from runfold_projections.control.migrations import migrate
from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch, encode_item
from runfold_schemas.codec.catalog import FEATURE_LEVEL
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import RunRewound
from runfold_schemas.ids import Ids
from runfold_server.app.application import create_app
from runfold_server.core.config import ServerConfig
from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import prepare
from tests.support.services.running import Services

LEVEL = 2
"""Feature level from which the log has models."""
MODEL = json.dumps({"artifact_path": "m", "run_id": "r", "utc_time_created": "now", "flavors": {}})
LOG_MODEL = "/api/2.0/mlflow/runs/log-model"


def test_models_need_a_level_that_an_older_log_reaches_by_an_upgrade(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = "older_level"

    async def creation_offset() -> None:
        await create_log(services.kafka, namespace, LogSettings(partitions=1), release="older")
        await migrate(services.postgres, namespace)

    with monkeypatch.context() as older:
        older.setattr(admin, "FEATURE_LEVEL", LEVEL - 1)
        asyncio.run(creation_offset())
    config = ServerConfig(services.kafka, services.postgres, namespace, read_wait=0.5)
    with TestClient(create_app(config), base_url="http://127.0.0.1") as client:
        answer = client.post(LOG_MODEL, json={"run_id": "r", "model_json": MODEL})
        assert answer.status_code == 501
        assert (
            f"needs feature level {LEVEL}, the log is at {LEVEL - 1}: run `runfold upgrade`" in answer.json()["message"]
        )
        for path, body in (
            ("logged-models", {"experiment_id": "0"}),
            ("logged-models/m-1/params", {"params": []}),
            ("runs/outputs", {"run_id": "r", "models": [{"model_id": "m-1"}]}),
        ):
            answer = client.post(f"/api/2.0/mlflow/{path}", json=body)
            assert (answer.status_code, "needs feature level 4" in answer.json()["message"]) == (501, True)
    before, after = asyncio.run(upgrade_log(services.kafka, namespace, release="newer"))
    assert (before, after >= LEVEL) == (LEVEL - 1, True)
    with TestClient(create_app(config), base_url="http://127.0.0.1") as client:
        # No worker runs here: a run that no row shows is asked for strongly.
        assert client.post(LOG_MODEL, json={"run_id": "r", "model_json": MODEL}).status_code == 503


def test_what_an_older_log_does_not_know_is_refused_at_both_doors_and_the_rest_taken(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older workers would pause before it."""
    namespace = "older_line"

    async def creation_offset() -> None:
        await create_log(services.kafka, namespace, LogSettings(partitions=1), release="older")
        await migrate(services.postgres, namespace)

    with monkeypatch.context() as older:
        older.setattr(admin, "FEATURE_LEVEL", 2)
        asyncio.run(creation_offset())
    encoder = RunEncoder("r", Ids())
    points = encoder.metrics(from_points([Point("loss", 1.0, 0, 0)]))[0][0]
    rewind = encoder.branch_event(RunRewound(run_id="r", step=1))
    says = "needs feature level 3, the log is at 2: run `runfold upgrade`"
    with TestClient(
        create_app(ServerConfig(services.kafka, services.postgres, namespace)), base_url="http://127.0.0.1"
    ) as client:
        headers = {"Content-Type": CONTENT_TYPE}
        answer = client.post("/api/runfold/v1/events", content=encode_batch([points, rewind]), headers=headers)
        assert (answer.status_code, says in answer.json()["message"]) == (400, True)
    transport = KafkaTransport("kafka://x", services.kafka, namespace, HttpTransport("http://127.0.0.1:9"))
    try:
        results = transport.append([encode_item(points), encode_item(rewind)], outcome=False)
    finally:
        transport.close()
    assert [result.outcome for result in results] == ["appended", "rejected"]
    assert says in results[1].message
    asyncio.run(upgrade_log(services.kafka, namespace, release="newer"))
    with TestClient(
        create_app(ServerConfig(services.kafka, services.postgres, namespace)), base_url="http://127.0.0.1"
    ) as client:
        answer = client.post("/api/runfold/v1/events", content=encode_batch([points, rewind]), headers=headers)
        assert answer.status_code == 200


async def test_an_embedded_log_of_an_older_release_is_upgraded_when_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    settings = load_settings(data_dir=tmp_path, namespace="older_embedded", kafka=None)

    async def prepared() -> int:
        await prepare(settings, services.kafka, services.postgres)
        return (await open_log(services.kafka, settings.namespace)).level

    with monkeypatch.context() as older:
        older.setattr(admin, "FEATURE_LEVEL", LEVEL - 1)
        assert await prepared() == LEVEL - 1
    assert await prepared() == FEATURE_LEVEL
