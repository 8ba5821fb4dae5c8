"""Every call that MLflow's own descriptors and routes declare is served, or answers that it is not yet."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from mlflow.protos import databricks_pb2, mlflow_artifacts_pb2, model_registry_pb2, service_pb2, webhooks_pb2
from starlette.testclient import TestClient

from runfold_log.cluster import KafkaCluster
from runfold_server.app.application import create_app
from runfold_server.core.config import ServerConfig
from runfold_storage.config import S3Config

TRACKING = ("/mlflow/experiments/", "/mlflow/runs/", "/mlflow/metrics/")
NOT_YET = {"/mlflow/runs/create-promptlab-run"}
"""Tracking calls that belong to prompts."""
AJAX_ONLY = re.compile(r'"(/ajax-api/[^"]+)"')


def declared(module: ModuleType) -> Iterator[tuple[str, str, int]]:
    """Method, path below /api/N.0 and N of every call of the module's services."""
    for service in module.DESCRIPTOR.services_by_name.values():
        for rpc in service.methods:
            for endpoint in rpc.GetOptions().Extensions[databricks_pb2.rpc].endpoints:
                # One path lacks its slash; MLflow registers it by hand.
                yield endpoint.method, "/" + endpoint.path.lstrip("/"), endpoint.since.major


def routes_by_hand() -> list[str]:
    """Addresses that the server's module registers outside the descriptors."""
    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    text = (Path(spec.submodule_search_locations[0]) / "server" / "__init__.py").read_text(encoding="utf-8")
    return AJAX_ONLY.findall(text)


CALLS = sorted(
    {
        call
        for module in (service_pb2, model_registry_pb2, mlflow_artifacts_pb2, webhooks_pb2)
        for call in declared(module)
    }
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    config = ServerConfig(
        kafka=KafkaCluster("127.0.0.1:1"),
        dsn="postgresql://nobody@127.0.0.1:1/none",
        kafka_timeout=0.2,
        ends_timeout=0.2,
        acquire_timeout=0.2,
        s3=S3Config("http://127.0.0.1:1"),
    )
    with TestClient(create_app(config), base_url="http://127.0.0.1") as client:
        yield client


def test_the_descriptors_hold_what_is_known_of_them() -> None:
    tracking = [path for _, path, _ in CALLS if path.startswith(TRACKING)]
    assert len(tracking) >= 27
    assert len(CALLS) > 150
    assert "/ajax-api/2.0/mlflow/metrics/get-history-bulk" in routes_by_hand()


@pytest.mark.parametrize(("method", "path", "major"), CALLS, ids=lambda part: str(part))
def test_a_declared_call_is_served_or_said_to_come_later(
    client: TestClient, method: str, path: str, major: int
) -> None:
    for prefix in ("/api", "/ajax-api"):
        answer = client.request(method, f"{prefix}/{major}.0{re.sub(r'[{<][^}>]*[}>]', 'x', path)}")
        if path.startswith(TRACKING) and path not in NOT_YET:
            assert answer.status_code in (400, 503), answer.text
        else:
            assert answer.status_code not in (404, 405), answer.text
        if answer.status_code == 501:
            assert answer.json()["error_code"] == "NOT_IMPLEMENTED"
            assert "not served by this release" in answer.json()["message"]


@pytest.mark.parametrize("path", routes_by_hand())
def test_a_route_registered_by_hand_is_served_or_said_to_come_later(client: TestClient, path: str) -> None:
    answers = [client.request(method, re.sub(r"<[^>]*>", "x", path)) for method in ("GET", "POST")]
    assert any(answer.status_code not in (404, 405) for answer in answers)
