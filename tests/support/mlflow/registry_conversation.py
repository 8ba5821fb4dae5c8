"""Requests about the registry, in an order, and what MLflow 3.17.2 answered to them.

`python -m tests.support.mlflow.registry_conversation URL` records the answers of a server (MLflow's own, empty but for
its experiment 0) into `registry_answers.json`. RUN stands for the id of a run of experiment 0.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

RECORDED = Path(__file__).with_name("registry_answers.json")
RUN = "RUN"
TIMES = ("creation_timestamp", "last_updated_timestamp")
Ask = tuple[str, str, Any]

M, V = "registered-models", "model-versions"
S = "s3://bucket/m"
PROMPT = {"key": "mlflow.prompt.is_prompt", "value": "true"}


def _create_version(name: str, source: str = S, **more: Any) -> Ask:
    return "POST", f"{V}/create", {"name": name, "source": source, **more}


def _search(what: str, **query: Any) -> Ask:
    return "GET", f"{what}/search", query


REQUESTS: list[Ask] = [
    ("POST", f"{M}/create", {}),
    ("POST", f"{M}/create", {"name": ""}),
    ("POST", f"{M}/create", {"name": " "}),
    ("POST", f"{M}/create", {"name": 1}),
    ("POST", f"{M}/create", {"name": "a/b"}),
    ("POST", f"{M}/create", {"name": "a:b"}),
    ("POST", f"{M}/create", {"name": ".."}),
    ("POST", f"{M}/create", {"name": "t", "tags": [{"key": "..", "value": "v"}]}),
    ("POST", f"{M}/create", {"name": "t", "tags": [{"key": "a" * 251, "value": "v"}]}),
    ("POST", f"{M}/create", {"name": "t", "tags": [{"key": "a", "value": "v" * 100_001}]}),
    ("POST", f"{M}/create", {"name": "t", "tags": [{"value": "v"}]}),
    (
        "POST",
        f"{M}/create",
        {"name": "m1", "description": "first", "tags": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]},
    ),
    ("POST", f"{M}/create", {"name": "m1"}),
    ("POST", f"{M}/create", {"name": "m1", "tags": [PROMPT]}),
    ("POST", f"{M}/create", {"name": "m2"}),
    ("POST", f"{M}/create", {"name": "p1", "tags": [PROMPT]}),
    ("POST", f"{M}/create", {"name": "p1", "tags": [PROMPT]}),
    ("POST", f"{M}/create", {"name": "p1"}),
    ("GET", f"{M}/get", {}),
    ("GET", f"{M}/get", {"name": "none"}),
    ("GET", f"{M}/get", {"name": "a/b"}),
    ("GET", f"{M}/get", {"name": "m1"}),
    ("PATCH", f"{M}/update", {"name": "none", "description": "x"}),
    ("PATCH", f"{M}/update", {"name": "m2", "description": "second"}),
    ("PATCH", f"{M}/update", {"name": "m2"}),
    ("PATCH", f"{M}/update", {"description": "x"}),
    ("POST", f"{M}/set-tag", {"name": "m2", "key": "team", "value": "vision"}),
    ("POST", f"{M}/set-tag", {"name": "m2", "key": "team"}),
    ("POST", f"{M}/set-tag", {"name": "m2", "key": "team", "value": "vision"}),
    ("POST", f"{M}/set-tag", {"name": "none", "key": "team", "value": "vision"}),
    ("POST", f"{M}/set-tag", {"name": "m2", "value": "vision"}),
    ("POST", f"{M}/set-tag", {"name": "m2", "key": "../x", "value": "vision"}),
    ("DELETE", f"{M}/delete-tag", {"name": "m1", "key": "a"}),
    ("DELETE", f"{M}/delete-tag", {"name": "m1", "key": "a"}),
    ("DELETE", f"{M}/delete-tag", {"name": "none", "key": "a"}),
    ("DELETE", f"{M}/delete-tag", {"name": "m1"}),
    ("POST", f"{V}/create", {"name": "m1"}),
    ("POST", f"{V}/create", {"source": S}),
    _create_version("none"),
    _create_version("none", "s"),
    _create_version("m1", "/tmp/x"),
    _create_version("m1", "file:///tmp/x"),
    _create_version("m1", "runs:/other/m", run_id=RUN),
    _create_version("m1", f"runs:/{RUN}/m"),
    _create_version("m1", f"runs://host/{RUN}/m", run_id=RUN),
    _create_version("m1", f"mlflow-artifacts:/0/{RUN}/artifacts/m"),
    _create_version("m1", "mlflow-artifacts:/0/other/artifacts/m", run_id=RUN),
    _create_version("m1", f"mlflow-artifacts:/0/{RUN}/artifacts/m", run_id="none"),
    _create_version("m1", f"mlflow-artifacts:/0/{RUN}/artifacts/../x", run_id=RUN),
    _create_version("m1", "s3://bucket/a/../b"),
    _create_version("m1", "s3://bucket/a/%2e%2e/b"),
    _create_version("m1", "models:/m-1"),
    _create_version("m1", "models:/"),
    _create_version("m1", "models:/a/b/c"),
    _create_version("m1", "models://host/m1/1"),
    _create_version("m1", "models:/m1/1"),
    _create_version("m1", "models:/none/1"),
    _create_version("m1", "models:/m1@prod"),
    _create_version("m1", "models:/p1/1"),
    _create_version("m1", "dummy-source", tags=[PROMPT]),
    _create_version("p1", "other-source", tags=[PROMPT]),
    _create_version(
        "m1", f"runs:/{RUN}/m", run_id=RUN, description="one", run_link="https://x/1", tags=[{"key": "v", "value": "1"}]
    ),
    _create_version("m1", f"mlflow-artifacts:/0/{RUN}/artifacts/m", run_id=RUN),
    _create_version("m1", S, tags=[{"key": "..", "value": "1"}]),
    _create_version("m1", S, tags=[{"key": "v", "value": "3"}]),
    _create_version("m2", "models:/m1/1"),
    _create_version("m2", "models:/m1/1", run_id="other"),
    _create_version("m2", "models:/m1/latest"),
    _create_version("m2", "models:/m1/None"),
    _create_version("m2", "models:/m1/Staging"),
    _create_version("m2", "models:/m1/nowhere"),
    _create_version("m2", "models:/m1/99"),
    _create_version("p1", "dummy-source", tags=[PROMPT, {"key": "mlflow.prompt.text", "value": "hi"}]),
    ("GET", f"{V}/get", {"name": "m1", "version": "1"}),
    ("GET", f"{V}/get", {"name": "m1", "version": "9"}),
    ("GET", f"{V}/get", {"name": "m1", "version": "x"}),
    ("GET", f"{V}/get", {"name": "m1"}),
    ("GET", f"{V}/get", {"name": "none", "version": "1"}),
    ("GET", f"{V}/get-download-uri", {"name": "m1", "version": "1"}),
    ("GET", f"{V}/get-download-uri", {"name": "m2", "version": "1"}),
    ("GET", f"{V}/get-download-uri", {"name": "m1", "version": "9"}),
    ("GET", f"{V}/get-download-uri", {"name": "m1"}),
    ("PATCH", f"{V}/update", {"name": "m1", "version": "2", "description": "two"}),
    ("PATCH", f"{V}/update", {"name": "m1", "version": "2"}),
    ("PATCH", f"{V}/update", {"name": "m1", "version": "9", "description": "two"}),
    ("PATCH", f"{V}/update", {"name": "m1", "version": 2, "description": "two"}),
    ("POST", f"{V}/set-tag", {"name": "m1", "version": "2", "key": "v", "value": "2"}),
    ("POST", f"{V}/set-tag", {"name": "m1", "version": "9", "key": "v", "value": "2"}),
    ("POST", f"{V}/set-tag", {"name": "m1", "version": "2", "value": "2"}),
    ("DELETE", f"{V}/delete-tag", {"name": "m1", "version": "2", "key": "none"}),
    ("DELETE", f"{V}/delete-tag", {"name": "m1", "version": "9", "key": "none"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "prod", "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "Prod", "version": "2"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "prod", "version": "9"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "prod", "version": "x"}),
    ("POST", f"{M}/alias", {"name": "none", "alias": "prod", "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "latest", "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "LATEST", "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "v1", "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "V12", "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "a b", "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "alias": "a" * 256, "version": "1"}),
    ("POST", f"{M}/alias", {"name": "m1", "version": "1"}),
    ("GET", f"{M}/alias", {"name": "m1", "alias": "prod"}),
    ("GET", f"{M}/alias", {"name": "m1", "alias": "Prod"}),
    ("GET", f"{M}/alias", {"name": "m1", "alias": "PROD"}),
    ("GET", f"{M}/alias", {"name": "m1", "alias": "latest"}),
    ("GET", f"{M}/alias", {"name": "none", "alias": "prod"}),
    ("GET", f"{M}/alias", {"name": "m1"}),
    _create_version("m2", "models:/m1@prod"),
    ("DELETE", f"{M}/alias", {"name": "m1", "alias": "Prod"}),
    ("DELETE", f"{M}/alias", {"name": "m1", "alias": "Prod"}),
    ("DELETE", f"{M}/alias", {"name": "none", "alias": "Prod"}),
    ("POST", f"{V}/transition-stage", {"name": "m1", "version": "1", "stage": "production"}),
    (
        "POST",
        f"{V}/transition-stage",
        {"name": "m1", "version": "2", "stage": "Production", "archive_existing_versions": True},
    ),
    ("GET", f"{V}/get", {"name": "m1", "version": "1"}),
    (
        "POST",
        f"{V}/transition-stage",
        {"name": "m1", "version": "3", "stage": "Staging", "archive_existing_versions": False},
    ),
    ("POST", f"{V}/transition-stage", {"name": "m1", "version": "3", "stage": "nowhere"}),
    ("POST", f"{V}/transition-stage", {"name": "m1", "version": "9", "stage": "Staging"}),
    ("POST", f"{V}/transition-stage", {"name": "m1", "version": "3"}),
    (
        "POST",
        f"{V}/transition-stage",
        {"name": "m1", "version": "3", "stage": "Staging", "archive_existing_versions": "yes"},
    ),
    ("GET", f"{M}/get", {"name": "m1"}),
    ("GET", f"{M}/get-latest-versions", {"name": "m1"}),
    ("POST", f"{M}/get-latest-versions", {"name": "m1", "stages": ["production"]}),
    ("POST", f"{M}/get-latest-versions", {"name": "m1", "stages": ["nowhere"]}),
    ("GET", f"{M}/get-latest-versions", {"name": "none"}),
    _search(M),
    _search(M, max_results=1),
    _search(M, max_results=1, page_token="eyJvZmZzZXQiOiAxfQ=="),
    _search(M, max_results=1, page_token="zz"),
    _search(M, max_results=5000),
    _search(M, filter="name = 'm1'"),
    _search(M, filter="name LIKE 'm%'"),
    _search(M, filter="name ILIKE 'M%'", order_by="name DESC"),
    _search(M, filter="name IN ('m1', 'x')"),
    _search(M, filter="name != 'm1'"),
    _search(M, filter="name > 'm1'"),
    _search(M, filter="name = 1"),
    _search(M, filter="name = m1"),
    _search(M, filter="`name` = 'm1'"),
    _search(M, filter="version = '1'"),
    _search(M, filter="foo.name = '1'"),
    _search(M, filter="tags.team = 'vision'"),
    _search(M, filter="tags.team = 'vision' AND name = 'm2'"),
    _search(M, filter="tags.team != 'vision'"),
    _search(M, filter="tags.team > 'vision'"),
    _search(M, filter="tags.team = 1"),
    _search(M, filter="tags.team IN ('vision')"),
    _search(M, filter="name = 'm1' OR name = 'm2'"),
    _search(M, filter="tags.`mlflow.prompt.is_prompt` = 'true'"),
    _search(M, filter="tags.`mlflow.prompt.is_prompt` != 'true'"),
    _search(M, order_by="nothing"),
    _search(M, order_by="name sideways"),
    _search(M, order_by="name,"),
    _search(V),
    _search(V, max_results=2),
    _search(V, max_results=0),
    _search(V, max_results=200_001),
    _search(V, filter="name = 'm1'", order_by="version_number ASC"),
    _search(V, filter="name = 'm1'", order_by="name DESC"),
    _search(V, filter="name='m1' and version_number = 2"),
    _search(V, filter="version_number >= 2 and name LIKE 'm1'"),
    _search(V, filter="version_number = '2' and name = 'm1'"),
    _search(V, filter="version_number = 1.5"),
    _search(V, filter="version_number = 'x'"),
    _search(V, filter="version_number LIKE '1'"),
    _search(V, filter=f"run_id = '{RUN}'", order_by="version_number ASC"),
    _search(V, filter=f"run_id IN ('{RUN}', 'x')", order_by="version_number ASC"),
    _search(V, filter="run_id = 1"),
    _search(V, filter="source_path = 's3://bucket/m'"),
    _search(V, filter="source_path IN ('s3://bucket/m')"),
    _search(V, filter="source_path > 's3://bucket/m'"),
    _search(V, filter="tags.v = '3'"),
    _search(V, filter="tags.v LIKE '%'", order_by="version_number ASC"),
    _search(V, filter="nothing = '1'"),
    _search(V, filter="tags.`mlflow.prompt.is_prompt` = 'true'"),
    _search(V, order_by="nothing"),
    ("DELETE", f"{V}/delete", {"name": "m1", "version": "9"}),
    ("DELETE", f"{V}/delete", {"name": "m1", "version": "1"}),
    ("DELETE", f"{V}/delete", {"name": "m1", "version": "1"}),
    ("GET", f"{V}/get", {"name": "m1", "version": "1"}),
    ("GET", f"{M}/alias", {"name": "m1", "alias": "prod"}),
    ("DELETE", f"{V}/delete", {"name": "m1", "version": "3"}),
    _create_version("m1"),
    ("POST", f"{M}/rename", {"name": "m1"}),
    ("POST", f"{M}/rename", {"name": "m1", "new_name": "a/b"}),
    ("POST", f"{M}/rename", {"name": "none", "new_name": "m3"}),
    ("POST", f"{M}/rename", {"name": "m1", "new_name": "m3"}),
    ("GET", f"{M}/get", {"name": "m1"}),
    ("GET", f"{V}/get", {"name": "m3", "version": "2"}),
    ("DELETE", f"{M}/delete", {"name": "none"}),
    ("DELETE", f"{M}/delete", {"name": "m3"}),
    ("GET", f"{V}/get", {"name": "m3", "version": "2"}),
    _search(V, filter="name = 'm3'"),
    ("POST", f"{M}/create", {"name": "m3"}),
    _create_version("m3"),
]


def title(ask: Ask) -> str:
    """A request as the recording names it; long texts are cut."""
    method, path, body = ask
    return f"{method} {path} {json.dumps(body)[:300]}"


def meant(value: Any, run_id: str) -> Any:
    """An answer without what differs from one server to the next."""
    if isinstance(value, dict):
        return {key: 0 if key in TIMES else meant(item, run_id) for key, item in value.items()}
    if isinstance(value, list):
        return [meant(item, run_id) for item in value]
    return value.replace(run_id, RUN) if isinstance(value, str) else value


def converse(send: Callable[[str, str, Any], tuple[int, Any]], run_id: str) -> list[dict[str, Any]]:
    """Ask everything in order; `send` takes method, path and arguments."""
    told = []
    for ask in REQUESTS:
        method, path, body = ask
        status, answer = send(method, path, json.loads(json.dumps(body).replace(RUN, run_id)))
        told.append({"ask": title(ask), "status": status, "answer": meant(answer, run_id)})
    return told


def _sender(url: str) -> Callable[[str, str, Any], tuple[int, Any]]:
    def send(method: str, path: str, body: Any) -> tuple[int, Any]:
        address = f"{url}/api/2.0/mlflow/{path}"
        if method == "GET":
            address += f"?{urlencode(body)}"
        request = urllib.request.Request(address, method=method)
        if method != "GET":
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return send


if __name__ == "__main__":
    sender = _sender(sys.argv[1])
    made = sender("POST", "runs/create", {"experiment_id": "0", "start_time": 1})[1]["run"]["info"]["run_id"]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in converse(sender, made))
    RECORDED.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
