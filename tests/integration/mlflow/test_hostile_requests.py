"""Hand-made hostile requests: each gets a 4xx in MLflow's shape and changes nothing in the log."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.installations.server_pair import ServerPair

API = "/api/2.0/mlflow/"
JSON = {"content-type": "application/json"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def client(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client() as client:
        yield client


@pytest.fixture(scope="module")
def run_id(client: httpx2.Client) -> str:
    created = client.post(API + "runs/create", json={"experiment_id": "0"})
    return str(created.json()["run"]["info"]["run_id"])


def refused(servers: ServerPair, answer: httpx2.Response, before: tuple[int, int], status: int = 400) -> str:
    """The message of a refusal that has left the log alone."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    told = answer.json()
    assert told["error_code"] in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"), told
    assert len(told["message"]) < 20_000
    assert servers.log_size() == before
    return str(told["message"])


METRIC = '"key": "k", "timestamp": 1'
BODIES: dict[str, bytes | str] = {
    "no JSON": "{",
    "text after the object": "{} {}",
    "a list": "[1]",
    "a number": "3",
    "a text": '"run_id"',
    "a text of a text": json.dumps(json.dumps(json.dumps({"run_id": "x"}))),
    "bad UTF-8": b'{"run_id": "\xff\xfe"}',
    "overlong UTF-8": b'{"run_id": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"run_id": "\xed\xa0\x80"}',
    "a lone surrogate": '{"run_id": "RUN", "key": "k", "timestamp": 1, "value": 1, "model_id": "\\ud800"}',
    "UTF-16": '{"run_id": "x"}'.encode("utf-16"),
    "a NUL": '{"run_id": "a\\u0000b", ' + METRIC + ', "value": 1}',
    "a NUL within a key": '{"run_id": "RUN", "key": "a\\u0000", "timestamp": 1, "value": 1}',
    "deep nesting": '{"run_id": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep nesting where nobody looks": '{"run_id": "RUN", "else": ' + '{"a":' * 50_000 + "1" + "}" * 50_001,
    "a number beyond doubles": '{"run_id": "RUN", ' + METRIC + ', "value": 1e400}',
    "a number beyond int64": '{"run_id": "RUN", "key": "k", "value": 1, "timestamp": 9223372036854775808}',
    "a text beyond int64": '{"run_id": "RUN", "key": "k", "value": 1, "timestamp": "-9223372036854775809"}',
    "a step beyond int64": '{"run_id": "RUN", ' + METRIC + ', "value": 1, "step": 1e300}',
    "a number of many digits": '{"run_id": "RUN", "key": "k", "value": 1, "timestamp": ' + "9" * 10_000 + "}",
    "a text of many digits": '{"run_id": "RUN", "key": "k", "value": 1, "timestamp": "' + "9" * 10_000 + '"}',
    "digits of other scripts": '{"run_id": "RUN", "key": "k", "value": 1, "timestamp": "１²"}',
    "half a step": '{"run_id": "RUN", ' + METRIC + ', "value": 1, "step": 0.5}',
    "a bare NaN": '{"run_id": "RUN", ' + METRIC + ', "value": NaN}',
    "a time before 1970": '{"run_id": "RUN", "key": "k", "value": 1, "timestamp": -1}',
    "a yes for a value": '{"run_id": "RUN", ' + METRIC + ', "value": [true]}',
    "both spellings": '{"run_id": "RUN", "runId": "RUN", ' + METRIC + ', "value": 1}',
    "an object for a text": '{"run_id": {"a": 1}, ' + METRIC + ', "value": 1}',
    "a key that leads elsewhere": '{"run_id": "RUN", "key": "../../etc/passwd", "value": 1, "timestamp": 1}',
    "a key too long": '{"run_id": "RUN", "key": "' + "k" * 251 + '", "value": 1, "timestamp": 1}',
    "gzip": gzip.compress(b'{"run_id": "x"}'),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_can_not_be_right(servers: ServerPair, client: httpx2.Client, run_id: str, what: str) -> None:
    body = BODIES[what]
    content = body if isinstance(body, bytes) else body.replace("RUN", run_id).encode()
    headers = JSON | ({"content-encoding": "gzip"} if what == "gzip" else {})
    before = servers.log_size()
    refused(servers, client.post(API + "runs/log-metric", content=content, headers=headers), before)


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "\xe9"]
)
def test_a_body_of_another_type(servers: ServerPair, client: httpx2.Client, run_id: str, kind: str | None) -> None:
    body = json.dumps({"run_id": run_id, "key": "k", "value": 1, "timestamp": 1}).encode()
    headers = {} if kind is None else {b"content-type": kind.encode("latin-1")}
    before = servers.log_size()
    message = refused(servers, client.post(API + "runs/log-metric", content=body, headers=headers), before)
    assert "Content-Type" in message


def test_bodies_that_are_too_large(servers: ServerPair, client: httpx2.Client, run_id: str) -> None:
    before = servers.log_size()
    huge = b'{"run_id": "' + b"x" * (9 * MIB) + b'"}'
    assert "at most" in refused(servers, client.post(API + "runs/log-metric", content=huge, headers=JSON), before, 413)
    pieces = (b" " * MIB for _ in range(10))
    assert "larger" in refused(servers, client.post(API + "runs/log-metric", content=pieces, headers=JSON), before, 413)
    tags = [{"key": "k", "value": "v" * MIB}]
    created = client.post(API + "runs/create", json={"experiment_id": "0", "tags": tags})
    assert "exceeds the maximum length" in refused(servers, created, before)
    dataset = {"name": "d", "digest": "x", "source_type": "s", "source": "u", "schema": "p" * (2 * MIB)}
    logged = client.post(API + "runs/log-inputs", json={"run_id": run_id, "datasets": [{"dataset": dataset}]})
    assert "exceeds the maximum length" in refused(servers, logged, before)


SEARCHES: dict[str, dict[str, Any]] = {
    "no runs": {"max_results": 0},
    "fewer than none": {"max_results": -1},
    "more than allowed": {"max_results": 50_001},
    "far more than allowed": {"max_results": 2**63},
    "half a run": {"max_results": 1.5},
    "a token of nonsense": {"page_token": "zz"},
    "a token of something else": {"page_token": "W10="},
    "a token before the start": {"page_token": "eyJvZmZzZXQiOiAtMX0="},
    "a token beyond everything": {"page_token": "eyJvZmZzZXQiOiAxZTMwMH0="},
    "a view of numbers": {"run_view_type": 9},
    "ids that are no numbers": {"experiment_ids": ["0", "1; DROP TABLE run"]},
    "SQL for a filter": {"filter": "metrics.a > 1; DROP TABLE run; --"},
    "SQL in a comparison": {"filter": "params.a = 'x' OR 1=1"},
    "an open quote": {"filter": "params.a = 'x"},
    "a NUL in a filter": {"filter": "params.a = 'x\x00'"},
    "quotes without end": {"filter": "'" * 9999},
    "backslashes": {"filter": "params.a LIKE '\\"},
    "brackets without end": {"filter": "run_id IN (" * 500},
    "a filter too long": {"filter": "params.a = '" + "x" * 300_000 + "'"},
    "clauses too many": {"filter": " AND ".join(["params.a = 'x'"] * 1000)},
    "SQL for an order": {"order_by": ["start_time; DROP TABLE run"]},
    "SQL after an order": {"order_by": ["metrics.a DESC NULLS FIRST, (SELECT 1)"]},
    "an order of nothing": {"order_by": [""]},
    "orders too many": {"order_by": [f"metrics.m{n}" for n in range(1000)]},
    "an order that is no text": {"order_by": [{"a": 1}]},
}


@pytest.mark.parametrize("what", SEARCHES)
def test_a_search_that_can_not_be_right(servers: ServerPair, client: httpx2.Client, what: str) -> None:
    before = servers.log_size()
    refused(servers, client.post(API + "runs/search", json={"experiment_ids": ["0"]} | SEARCHES[what]), before)
    assert client.post(API + "runs/search", json={"experiment_ids": ["0"]}).status_code == 200


def test_what_looks_like_sql_is_a_value_like_others(client: httpx2.Client) -> None:
    odd = ["'; DROP TABLE run; --", '" OR ""="', "%_\\", "$1", "{}", "\u202e", "🧪", "a''b"]
    for value in odd:
        tags = [{"key": "odd", "value": value}]
        created = client.post(API + "runs/create", json={"experiment_id": "0", "tags": tags}).json()
        quote = "'" if '"' in value else '"'
        escaped = value.replace(quote, quote * 2)
        query = {"experiment_ids": ["0"], "filter": f"tags.odd = {quote}{escaped}{quote}"}
        if quote in value:
            continue
        found = client.post(API + "runs/search", json=query).json()["runs"]
        assert [run["info"]["run_id"] for run in found] == [created["run"]["info"]["run_id"]], value


QUERIES = {
    "a NUL": "run_id=%00",
    "bad UTF-8": "run_id=%FF%FE",
    "a percent sign": "run_id=%",
    "nothing": "run_id=",
    "another name": "run=x",
    "very long": "run_id=" + "x" * 50_000,
    "very many": "&".join(f"run_id={n}" for n in range(5000)),
}


@pytest.mark.parametrize("what", QUERIES)
def test_a_query_that_can_not_be_right(servers: ServerPair, client: httpx2.Client, what: str) -> None:
    before = servers.log_size()
    answer = client.get(f"{API}runs/get?{QUERIES[what]}")
    refused(servers, answer, before, 404 if answer.status_code == 404 else 400)
    client.get(f"{API}metrics/get-history-bulk?metric_key=k&{QUERIES[what]}")
    client.get(f"{API}metrics/get-history-bulk-interval?metric_key=k&{QUERIES[what].replace('run_id', 'run_ids')}")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["runs/log-metric", "runs/get", "runs/nope", "runs/%00", "runs/get/", "../../health"])
def test_other_methods_and_paths_are_no_faults(
    servers: ServerPair, client: httpx2.Client, method: str, path: str
) -> None:
    before = servers.log_size()
    assert client.request(method, API + path).status_code < 500
    assert servers.log_size() == before


@pytest.mark.parametrize("path", ["logged-models/a%0Ab", "webhooks/a%0Ab", "webhooks/%0A"])
def test_an_id_with_a_line_break_is_an_id_that_nothing_has(
    servers: ServerPair, client: httpx2.Client, path: str
) -> None:
    before = servers.log_size()
    refused(servers, client.get(API + path), before, 404)


RAW = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a negative length": b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: -5\r\n\r\n",
    "a length of letters": b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: abc\r\n\r\n",
    "a length of another script": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ٣\r\n\r\nabc".encode(),
    "a broken piece": b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "half a body": b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{",
    "a header of bytes": b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    b"traceparent: \xff\xfe\r\nx-request-id: \xff\r\n\r\n",
}


@pytest.mark.parametrize("what", RAW)
def test_bytes_that_are_no_request_leave_the_server_well(servers: ServerPair, client: httpx2.Client, what: str) -> None:
    before = servers.log_size()
    host, port = servers.uris[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(RAW[what])
        raw.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    assert not answer or answer.split(b" ")[1][:1] in b"24"
    assert client.get("/health").text == "OK"
    assert servers.log_size() == before
