"""The server while neither Kafka nor Postgres is there: it starts, says so, and answers within bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from runfold_log.cluster import KafkaCluster
from runfold_server.app.application import create_app
from runfold_server.core.config import ServerConfig

API = "/api/2.0/mlflow/"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    # Port 1 is never listened on.
    config = ServerConfig(
        kafka=KafkaCluster("127.0.0.1:1"),
        dsn="postgresql://nobody@127.0.0.1:1/none",
        kafka_timeout=0.5,
        ends_timeout=0.5,
        acquire_timeout=0.5,
        max_body_bytes=10_000,
    )
    with TestClient(create_app(config), base_url="http://127.0.0.1") as client:
        yield client


def test_it_is_alive_but_not_ready(client: TestClient) -> None:
    assert client.get("/health").text == client.get("/health/live").text == "OK"
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert not answer.json()["parts"]["kafka"]["ok"]
    assert not answer.json()["parts"]["postgres"]["ok"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs/log-metric", {"run_id": "r", "key": "k", "value": 1, "timestamp": 1}),
        ("runs/log-parameter", {"run_id": "r", "key": "k", "value": "1"}),
        ("runs/create", {"experiment_id": "0"}),
        ("experiments/create", {"name": "x"}),
        ("runs/search", {"experiment_ids": ["0"]}),
    ],
)
def test_calls_say_what_is_away(client: TestClient, path: str, body: dict[str, object]) -> None:
    answer = client.post(API + path, json=body)
    assert answer.status_code == 503
    assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert "down" in answer.json()["message"] or "does not answer" in answer.json()["message"]
    assert int(answer.headers["retry-after"]) >= 1


def test_bad_input_is_refused_all_the_same(client: TestClient) -> None:
    assert client.post(API + "runs/log-metric", json={}).status_code == 400
    assert client.post(API + "runs/log-batch", content=b"x" * 20_000).status_code == 413
    streamed = client.post(API + "runs/log-batch", content=iter([b"x" * 6000] * 3))
    assert streamed.status_code == 413


def test_addresses(client: TestClient) -> None:
    assert client.get("/nope").status_code == 404
    missing = client.get(API + "nope")
    assert missing.status_code == 404
    assert missing.headers["content-type"].startswith("text/html")
    assert client.put(API + "runs/log-metric", json={}).status_code == 405
    planned = client.post(API + "artifacts/presigned-upload-url")
    assert planned.status_code == 501
    assert planned.json()["error_code"] == "NOT_IMPLEMENTED"
    assert client.put("/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/a.txt", content=b"x").status_code == 501
    assert client.get("/version").text == "3.17.2"
    assert client.get("/ajax-api/3.0/mlflow/server-info").json()["store_type"] == "SqlStore"


def test_it_counts_by_route_not_by_address(client: TestClient) -> None:
    client.get(API + "secret-guess")
    text = client.get("/metrics").text
    assert 'route="/api/2.0/mlflow/…"' in text
    assert "secret-guess" not in text
    assert 'route="/api/2.0/mlflow/runs/log-metric"' in text
