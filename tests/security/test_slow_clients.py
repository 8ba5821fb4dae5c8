"""Clients that are slow on purpose, or send too much: none of them takes memory, time or places from the others."""

import dataclasses
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest

from runfold_server.reads import exports
from runfold_server.security.timeouts import PATIENCE, BoundedProtocol
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import Caller

BOUND = 1.0
"""Seconds for /health: ten times what is asked of a server that has a machine of its own."""


@pytest.fixture
def less_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    less = dataclasses.replace(PATIENCE, header_seconds=1.0, stall_seconds=1.0, answer_seconds=1.0, connections=60)
    monkeypatch.setattr(BoundedProtocol, "patience", less)


def connected(servers: ServerPair) -> socket.socket:
    address = urllib.parse.urlsplit(servers.uris[0])
    return socket.create_connection((address.hostname, address.port), timeout=30)


def rest_of(connection: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def head(servers: ServerPair, method: str, path: str, *more: str) -> bytes:
    netloc = urllib.parse.urlsplit(servers.uris[0]).netloc
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {netloc}", *more, "", ""]).encode()


@contextmanager
def healthy(servers: ServerPair) -> Iterator[None]:
    """/health is asked all the time; its 99th percentile (of few, the longest) is below the bound."""
    times: list[float] = []
    done = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=servers.uris[0], timeout=60) as client:
            while not done.is_set():
                began = time.perf_counter()
                assert client.get("/health").status_code == 200
                times.append(time.perf_counter() - began)
                done.wait(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    while not times and thread.is_alive():
        time.sleep(0.01)
    try:
        yield
    finally:
        done.set()
        thread.join()
    times.sort()
    p99 = times[int(0.99 * len(times))]
    print(f"/health: p99 {p99 * 1000:.0f} ms of {len(times)}")
    assert p99 < BOUND


def test_headers_are_bounded_in_bytes(servers: ServerPair) -> None:
    with healthy(servers), connected(servers) as one:
        one.sendall(head(servers, "GET", "/version")[:-2] + b"x-large: ")
        with pytest.raises(OSError, match=r"."):
            one.sendall(b"a" * 50_000_000)
    with connected(servers) as one:
        one.sendall(head(servers, "GET", "/version")[:-2] + b"x-large: " + b"a" * (PATIENCE.header_bytes + 1000))
        assert rest_of(one)[:12] in (b"HTTP/1.1 431", b"")


def test_headers_are_bounded_in_number(servers: ServerPair) -> None:
    many = [f"x-{n}: 1" for n in range(PATIENCE.headers + 1)]
    with connected(servers) as one:
        one.sendall(head(servers, "GET", "/version", *many))
        assert rest_of(one).startswith(b"HTTP/1.1 431")
    with connected(servers) as one:
        one.sendall(head(servers, "GET", "/version", *many[:100], "connection: close"))
        assert rest_of(one).startswith(b"HTTP/1.1 200")


def test_trailers_are_bounded(servers: ServerPair) -> None:
    with healthy(servers), connected(servers) as one:
        one.sendall(head(servers, "POST", "/api/2.0/mlflow/experiments/search", "transfer-encoding: chunked"))
        one.sendall(b"2\r\n{}\r\n0\r\nx-trailer: ")
        with pytest.raises(OSError, match=r"."):
            one.sendall(b"a" * 50_000_000)


@pytest.mark.usefixtures("less_patience")
def test_half_sent_requests_end(servers: ServerPair) -> None:
    with healthy(servers), ExitStack() as stack:
        halves = [stack.enter_context(connected(servers)) for _ in range(50)]
        for n, half in enumerate(halves):
            half.sendall(head(servers, "GET", "/version")[: n % 40])
        began = time.monotonic()
        for n, half in enumerate(halves):
            assert rest_of(half)[:12] == (b"HTTP/1.1 408" if n % 40 else b"")
        assert time.monotonic() - began < 15


@pytest.mark.usefixtures("less_patience")
@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/api/2.0/mlflow/experiments/search", "application/json"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/stalled.bin", "application/octet-stream"),
    ],
)
def test_a_body_that_stops_ends(servers: ServerPair, method: str, path: str, kind: str) -> None:
    with connected(servers) as one:
        one.sendall(head(servers, method, path, f"content-type: {kind}", "content-length: 100000") + b"{" * 10)
        began = time.monotonic()
        rest_of(one)
        assert time.monotonic() - began < 15


@pytest.mark.usefixtures("less_patience")
def test_connections_that_ask_nothing_make_room(servers: ServerPair) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(servers))
        assert httpx2.get(servers.uris[0] + "/health", timeout=30).status_code == 200


def logged(client: httpx2.Client, points: int) -> str:
    caller = Caller(client)
    run_id = caller.run()
    for start in range(0, points, 1000):
        metrics = [
            {"key": "k", "value": n / 7, "timestamp": 10**12 + n, "step": 10**15 + n}
            for n in range(start, start + 1000)
        ]
        caller.post("runs/log-batch", run_id=run_id, metrics=metrics)
    return run_id


def test_answers_that_nobody_takes_are_few_and_end(servers: ServerPair, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.client() as client:
        run_id = logged(client, 100_000)
        path = "/api/runfold/v1/series:history"
        body = json.dumps({"runs": [run_id], "metrics": ["k"]}).encode()
        question = head(servers, "POST", path, "content-type: application/json", f"content-length: {len(body)}") + body
        assert len(client.post(path, content=body).content) > 4_500_000
        monkeypatch.setattr(
            BoundedProtocol, "patience", dataclasses.replace(PATIENCE, answer_seconds=3.0, progress_bytes=1_000_000)
        )
        with healthy(servers), ExitStack() as stack:
            silent = []
            for _ in range(exports.MOST_OF_ONE):
                one = stack.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                address = urllib.parse.urlsplit(servers.uris[0])
                one.connect((address.hostname, address.port))
                one.sendall(question)
                silent.append(one)
            # A place is waited for, and comes when those that take nothing have been given up.
            assert client.post(path, content=body, timeout=60).status_code == 200


def test_a_batch_of_too_many_is_refused_before_it_is_parsed(servers: ServerPair) -> None:
    with servers.client() as client, healthy(servers):
        run_id = Caller(client).run()
        params = [{"key": f"k{n}", "value": ""} for n in range(250_000)]
        for name in ("params", "tags", "metrics"):
            answer = client.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run_id, name: params})
            assert answer.status_code == 400
            assert "A batch logging request can contain at most" in answer.json()["message"]
    with servers.client() as client:
        # What only looks like many entities is one value.
        value = '"key"' * 5_000
        Caller(client).post("runs/log-batch", run_id=run_id, tags=[{"key": "text", "value": value}])
        assert Caller(client).get("runs/get", run_id=run_id)["run"]["data"]["tags"][-1]["key"] in (
            "text",
            "mlflow.runName",
        )


def test_lists_are_counted_before_their_items_are_parsed(servers: ServerPair, client: httpx2.Client) -> None:
    tags = [{"key": "k", "value": "v"}] * 10_001
    message = Caller(client).post("experiments/create", 400, name="counted", tags=tags)["message"]
    assert "at most 10000" in message


def test_many_parts_are_signed_beside_other_requests(servers: ServerPair, client: httpx2.Client) -> None:
    run_id = Caller(client).run()
    with healthy(servers):
        path = f"/api/2.0/mlflow-artifacts/mpu/create/0/{run_id}/artifacts"
        answer = client.post(path, json={"path": "large.bin", "num_parts": 10_000}, timeout=120)
        assert len(answer.json()["credentials"]) == 10_000


def test_a_run_of_very_many_keys_is_shown_whole_beside_other_requests(
    servers: ServerPair, client: httpx2.Client
) -> None:
    caller, count = Caller(client), 20_000
    run_id = caller.run()
    for start in range(0, count, 1000):
        metrics = [{"key": f"key {n}", "value": 1.0, "timestamp": 1} for n in range(start, start + 1000)]
        caller.post("runs/log-batch", run_id=run_id, metrics=metrics)
    with healthy(servers):
        assert len(caller.get("runs/get", run_id=run_id)["run"]["data"]["metrics"]) == count
