"""Streams and patterns: what one client opens or asks for leaves room for all others."""

import asyncio
import socket
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest

from runfold_server.streams.events import feed as event_feed
from runfold_server.streams.series import feed as series_feed
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import Caller

NATIVE = "/api/runfold/v1"
SLOW = r"^(a+)(a+)(a+)(a+)\4\3\2\1b$"
"""Postgres needs far longer for this than it may take."""


@contextmanager
def opened(servers: ServerPair, path: str, count: int) -> Iterator[list[tuple[int, str]]]:
    """So many requests sent at once, and kept open: status and head of each answer."""
    address = urllib.parse.urlsplit(servers.uris[0])
    question = f"GET {path} HTTP/1.1\r\nhost: {address.netloc}\r\n\r\n".encode()
    writers: list[asyncio.StreamWriter] = []
    ready, done = threading.Event(), threading.Event()
    heads: list[tuple[int, str]] = []

    async def one() -> tuple[int, str]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writers.append(writer)
        writer.write(question)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode()
        return int(head.split()[1]), head.lower()

    async def all_of_them() -> None:
        try:
            heads.extend(await asyncio.gather(*(one() for _ in range(count))))
        finally:
            ready.set()
        await asyncio.to_thread(done.wait)
        for writer in writers:
            writer.close()

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    try:
        assert ready.wait(90)
        yield heads
    finally:
        done.set()
        thread.join()


@pytest.fixture
def run_id(client: httpx2.Client) -> str:
    return Caller(client).run()


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("series:live?run_id={run_id}&key=loss", series_feed.MAX_STREAMS_PER_CLIENT),
        ("events:stream", event_feed.MAX_STREAMS_PER_CLIENT),
        ("events:stream?outcome=true", event_feed.MAX_STREAMS_PER_CLIENT),
    ],
)
def test_one_client_has_so_many_streams_however_fast_it_opens_them(
    servers: ServerPair, run_id: str, path: str, most: int
) -> None:
    path = f"{NATIVE}/{path.format(run_id=run_id)}"
    with opened(servers, path, most + 50) as heads:
        assert Counter(status for status, _ in heads) == {200: most, 429: 50}
        assert all("retry-after: " in head for status, head in heads if status == 429)
        # Whatever has a place of its own is answered beside them.
        assert httpx2.get(servers.uris[0] + "/health").status_code == 200
    for _ in range(100):
        with opened(servers, path, 1) as [(status, _)]:
            pass
        if status == 200:
            break
        time.sleep(0.1)
    assert status == 200


def test_a_refused_question_takes_no_place(servers: ServerPair, client: httpx2.Client) -> None:
    for _ in range(series_feed.MAX_STREAMS_PER_CLIENT + 1):
        assert client.get(f"{NATIVE}/series:live", params={"run_id": "0" * 32, "key": "a"}).status_code == 404
    for _ in range(event_feed.MAX_STREAMS_PER_CLIENT + 1):
        assert client.get(f"{NATIVE}/events:stream", params={"from": "nonsense"}).status_code == 400


def test_slow_patterns_hold_up_no_search(servers: ServerPair, client: httpx2.Client, run_id: str) -> None:
    keys = ["a" * 239 + "b", *(f"a{n}" for n in range(20))]
    metrics = [{"key": key, "value": 1.0, "timestamp": 1, "step": 0} for key in keys]
    Caller(client).post("runs/log-batch", run_id=run_id, metrics=metrics)

    def ask(_: int) -> int:
        with httpx2.Client(base_url=servers.uris[0], timeout=60) as one:
            return one.get(f"{NATIVE}/runs/{run_id}/metrics", params={"regex": SLOW}).status_code

    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(ask, n) for n in range(40)]
        time.sleep(0.5)
        searches = 0
        while not all(one.done() for one in asked):
            answer = client.post("/api/2.0/mlflow/experiments/search", json={"max_results": 5})
            assert answer.status_code == 200, answer.text
            assert client.get("/api/2.0/mlflow/runs/get", params={"run_id": run_id}).status_code == 200
            searches += 1
        assert searches
        assert {one.result() for one in asked} <= {400, 503}
    # A pattern that is simple is answered as before.
    found = client.get(f"{NATIVE}/runs/{run_id}/metrics", params={"regex": "^a7$"})
    assert [one["key"] for one in found.json()["metrics"]] == ["a7"]


def test_a_connection_that_is_cut_gives_its_place_back(servers: ServerPair, run_id: str) -> None:
    address = urllib.parse.urlsplit(servers.uris[0])
    path = f"{NATIVE}/series:live?run_id={run_id}&key=loss"
    for _ in range(series_feed.MAX_STREAMS_PER_CLIENT + 20):
        with socket.create_connection((address.hostname, address.port)) as one:
            one.sendall(f"GET {path} HTTP/1.1\r\nhost: {address.netloc}\r\n\r\n".encode())
            assert one.recv(12) == b"HTTP/1.1 200"
