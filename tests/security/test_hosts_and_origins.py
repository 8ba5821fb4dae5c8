"""Web pages of strangers: neither a rebound name nor a page of another origin reads or changes anything."""

import itertools
import urllib.parse

import httpx2
import pytest

from tests.support.browser.browser import in_browser
from tests.support.installations.installation import Installation
from tests.support.installations.server_pair import ServerPair

MLFLOW = "/api/2.0/mlflow"
_names = itertools.count()
_FORM = {"content-type": "text/plain"}
"""A content type that a page may send elsewhere without asking first."""


def port_of(servers: ServerPair) -> int:
    port = urllib.parse.urlsplit(servers.uris[0]).port
    assert port is not None
    return port


def experiments(client: httpx2.Client) -> set[str]:
    found = client.post(f"{MLFLOW}/experiments/search", json={"max_results": 1000}).json()
    return {one["name"] for one in found["experiments"]}


def test_a_name_that_is_rebound_to_this_machine_reads_nothing(servers: ServerPair) -> None:
    # To the browser the page and this server are one origin then: only the Host header shows the name.
    port = port_of(servers)
    for path in (
        f"{MLFLOW}/experiments/get?experiment_id=0",
        "/metrics",
        "/openapi.json",
        "/nope",
        "/api/runfold/v1/positions",
    ):
        answer = httpx2.get(servers.uris[0] + path, headers={"host": f"evil.example:{port}"})
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED"), path
        assert "RUNFOLD_ALLOWED_HOSTS" in answer.json()["message"]


def test_health_is_answered_under_any_name(servers: ServerPair) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/version"):
        assert httpx2.get(servers.uris[0] + path, headers={"host": "pod-7.cluster"}).status_code == 200


def test_a_page_of_another_origin_changes_nothing(servers: ServerPair, client: httpx2.Client) -> None:
    name = f"by a page {next(_names)}"
    base = servers.uris[0]
    script = f"""
        const calls = [
            ["POST", "{MLFLOW}/experiments/create", JSON.stringify({{name: "{name}"}}), "text/plain"],
            ["POST", "{MLFLOW}/experiments/create", JSON.stringify({{name: "{name}"}}), "application/json"],
            ["POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=x&path=a.txt", "bytes", "text/plain"],
            ["POST", "/api/runfold/v1/series:query", "{{}}", "text/plain"],
            ["POST", "/api/runfold/v1/webhooks/x/redeliver", "", "text/plain"],
            ["PUT", "/api/2.0/mlflow-artifacts/artifacts/0/a.txt", "bytes", "text/plain"],
            ["DELETE", "/api/2.0/mlflow-artifacts/artifacts/0/a.txt", null, null],
        ];
        for (const [method, path, body, type] of calls)
            for (const mode of ["no-cors", "cors"])
                await fetch("{base}" + path, {{method, body, mode,
                    headers: type ? {{"content-type": type}} : {{}}}}).catch(() => 0);
        return "done";"""
    assert in_browser(script) == "done"
    assert name not in experiments(client)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{MLFLOW}/experiments/create"),
        ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=x&path=a.txt"),
        ("POST", "/api/runfold/v1/series:query"),
        ("POST", "/api/runfold/v1/events"),
        ("POST", "/api/2.0/mlflow/webhooks/x/test"),
        ("POST", "/api/runfold/v1/webhooks/x/redeliver"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/a.txt"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/0/a.txt"),
        ("PATCH", f"{MLFLOW}/registered-models/update"),
    ],
)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_write_with_a_foreign_origin_is_denied_whatever_it_is(
    servers: ServerPair, method: str, path: str, origin: str
) -> None:
    answer = httpx2.request(method, servers.uris[0] + path, headers=_FORM | {"origin": origin}, content=b"{}")
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert "RUNFOLD_ALLOWED_ORIGINS" in answer.json()["message"]


def test_pages_of_the_server_itself_and_clients_without_an_origin_write(
    servers: ServerPair, client: httpx2.Client
) -> None:
    for headers in ({"origin": servers.uris[0]}, {}):
        name = f"own {next(_names)}"
        assert client.post(f"{MLFLOW}/experiments/create", json={"name": name}, headers=headers).status_code == 200
        assert name in experiments(client)


def test_every_answer_says_what_browsers_may_do_with_it(servers: ServerPair) -> None:
    for path in ("/health", f"{MLFLOW}/experiments/get?experiment_id=0", "/nope", "/metrics"):
        headers = httpx2.get(servers.uris[0] + path).headers
        shown = (headers["x-content-type-options"], headers["x-frame-options"], headers["cross-origin-resource-policy"])
        assert shown == ("nosniff", "SAMEORIGIN", "same-origin"), path
        assert "access-control-allow-origin" not in headers


def test_the_workers_port_and_a_servers_listed_names(installation: Installation) -> None:
    worker = installation.worker(allowed_hosts="workers.example")
    server = installation.server(allowed_hosts="runfold.example, *.internal.example")
    for program, name in ((worker, "workers.example"), (server, "a.internal.example")):
        denied = httpx2.get(program.url + "/metrics", headers={"host": f"evil.example:{program.port}"})
        assert (denied.status_code, denied.json()["error_code"]) == (403, "PERMISSION_DENIED")
        assert httpx2.get(program.url + "/metrics", headers={"host": name}).status_code == 200
    assert "evil.example" not in httpx2.get(worker.url + "/status").text
