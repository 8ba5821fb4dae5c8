"""The loads of strangers, on a real `runfold up`: while each of them lasts, /health is answered as if there were none.

Sizes are bounded in CI; RUNFOLD_SOAK=1 takes those that were reported.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.load.load import soak_factor
from tests.support.mlflow.caller import Caller

API = "/api/2.0/mlflow"
DEMAND = 0.1
"""Seconds that the 99th percentile of /health may be under any of these loads."""
BUSY, RATIO = 5, 10
"""What a machine that does other things may take more; and how often as long as without a load, if that is more."""
LEAST_SECONDS = 1.5
KEYS = 20_000 * soak_factor(5)
POINTS = 100_000 * soak_factor(15)
PARTS = 2_000 * soak_factor(5)

# Ten clients, each of which asks every 100 ms and counts the time from when it should have asked, so that one long
# wait counts as all that it held up. A process of its own: what the loads cost in this one is not the server's.
_PROBE = """
import http.client, json, sys, threading, time
done, times = threading.Event(), []

def ask(start):
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=120)
    due = start
    while not done.is_set() or time.perf_counter() > due:
        time.sleep(max(0, due - time.perf_counter()))
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b"OK"
        times.append(time.perf_counter() - due)
        due += 0.1

threads = [threading.Thread(target=ask, args=(time.perf_counter() + n / 100,)) for n in range(10)]
for one in threads:
    one.start()
print("asking", flush=True)
sys.stdin.read()
done.set()
for one in threads:
    one.join()
print(json.dumps(times))
"""


@dataclass(frozen=True)
class Target:
    """A server that runs, and how long /health takes at it when nobody does anything."""

    url: str
    idle: float = 0.0

    @property
    def address(self) -> tuple[str, int]:
        parts = urllib.parse.urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    def connected(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=120)

    def head(self, method: str, path: str, *more: str) -> bytes:
        return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *more, "", ""]).encode()

    def post(self, path: str, body: bytes, *more: str) -> bytes:
        kind = ("content-type: application/json", f"content-length: {len(body)}")
        return self.head("POST", path, *kind, *more) + body

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=120)


@contextmanager
def probed(target: Target, least: float = LEAST_SECONDS) -> Iterator[Callable[[], float]]:
    """Ask /health all the time; afterwards the given function tells its 99th percentile."""
    command = [sys.executable, "-c", _PROBE, target.address[0], str(target.address[1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdout is not None
        assert probe.stdout.readline() == "asking\n"
        began = time.monotonic()
        times: list[float] = []

        def p99() -> float:
            return float(times[int(0.99 * len(times))])

        try:
            yield p99
            time.sleep(max(0.0, least - (time.monotonic() - began)))
        finally:
            times += sorted(json.loads(probe.communicate(timeout=120)[0]))


@contextmanager
def healthy(target: Target) -> Iterator[None]:
    """Hold the server to what is demanded while the block lasts."""
    with probed(target) as p99:
        yield
    print(f"/health: p99 {p99() * 1000:.0f} ms, idle {target.idle * 1000:.0f} ms")
    assert p99() < max(DEMAND * BUSY, target.idle * RATIO)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("up")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
    command = [sys.executable, "-m", "runfold_stack", "up", "--data-dir", str(directory / "data"), "--port", "0"]
    with (
        (directory / "up.log").open("w+") as log,
        subprocess.Popen(command, env=environment | {"RUNFOLD_PARTITIONS": "2"}, stdout=log, stderr=log) as up,
    ):
        try:
            found = Target(_url_of(directory / "up.log", up))
            with probed(found, 2.0) as p99:
                pass
            yield Target(found.url, p99())
        finally:
            up.terminate()
            up.wait(60)


def _url_of(log: Path, up: "subprocess.Popen[Any]") -> str:
    deadline = time.monotonic() + 90
    while "Ctrl-C" not in log.read_text():
        assert up.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    line = next(line for line in log.read_text().splitlines() if "Runfold is up at" in line)
    return line.rpartition(" at ")[2].strip()


@pytest.fixture(scope="module")
def large_run(target: Target) -> str:
    """A run with very many keys, and very many points of one of them, folded."""
    keys = [{"key": f"layer{n}/weights/gradient norm", "value": n / 7, "timestamp": 10**12} for n in range(KEYS)]
    points = [{"key": "k", "value": n / 7, "timestamp": 10**12 + n, "step": 10**15 + n} for n in range(POINTS)]
    everything = keys + points
    with target.client() as client:
        run_id = str(Caller(client).run())

        def send(start: int) -> None:
            body = {"run_id": run_id, "metrics": everything[start : start + 1000]}
            client.post(f"{API}/runs/log-batch", json=body).raise_for_status()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, range(0, len(everything), 1000)))
        deadline = time.monotonic() + 300
        while client.get(f"{API}/runs/get", params={"run_id": run_id}).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(1.0)
    return run_id


def answered(target: Target, question: bytes) -> tuple[int, int]:
    """Ask on a connection of its own: the status, and how many bytes came until the server closed."""
    with target.connected() as one:
        one.sendall(question)
        head = one.recv(65536)
        size = len(head)
        while part := one.recv(1024 * 1024):
            size += len(part)
    return int(head.split()[1]), size


def test_half_sent_requests(target: Target) -> None:
    with healthy(target), ExitStack() as stack:
        for n in range(900):
            one = stack.enter_context(target.connected())
            one.sendall(target.post(f"{API}/experiments/search", b"{}" * 50)[: 1 + n % 200])
        time.sleep(LEAST_SECONDS)


def test_large_headers(target: Target) -> None:
    def send(_: int) -> None:
        with target.connected() as one:
            one.sendall(target.head("GET", "/version")[:-2] + b"x-large: ")
            with pytest.raises(OSError, match=r"."):
                one.sendall(b"a" * 50_000_000)

    with healthy(target), ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))


def bodies() -> dict[str, bytes]:
    """Bodies of almost 8 MiB with very many values, or with one that looks as if it were many."""
    return {
        "params": _list("params", b'{"key":""}', 600_000),
        "escaped names": _list("params", b'{"k\\u0065y":""}', 450_000),
        "empty objects": _list("params", b"{}", 2_700_000),
        "empty lists": _list("tags", b"[]", 2_700_000),
        "numbers": _list("metrics", b"1", 4_000_000),
        "names": b"{%s}" % b",".join(b'"%x":1' % n for n in range(700_000)),
        "a text": _list("tags", b'{"key":"t","value":"%s"}' % (b'{\\"a\\":1},' * 700_000), 1),
    }


def _list(name: str, item: bytes, count: int) -> bytes:
    return b'{"run_id":"%032x","%s":[%s]}' % (1, name.encode(), b",".join([item] * count))


def test_large_bodies(target: Target) -> None:
    sent = bodies().values()
    assert all(6_000_000 < len(body) < 8 * 1024 * 1024 for body in sent)
    questions = [target.post(f"{API}/runs/log-batch", body, "connection: close") for body in sent]
    with healthy(target), ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda question: answered(target, question)[0], questions * soak_factor(20)))
    # The one of a single text is refused for its length.
    assert set(found) == {400, 413}


def test_many_parts(target: Target, large_run: str) -> None:
    body = json.dumps({"path": "large.bin", "num_parts": PARTS}).encode()
    path = f"/api/2.0/mlflow-artifacts/mpu/create/0/{large_run}/artifacts"
    with healthy(target):
        status, size = answered(target, target.post(path, body, "connection: close"))
    assert status == 200
    assert size > PARTS * 100


def test_a_run_of_very_many_keys(target: Target, large_run: str) -> None:
    question = target.head("GET", f"{API}/runs/get?run_id={large_run}", "connection: close")
    with healthy(target), ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: answered(target, question), range(4 * soak_factor(5))))
    assert {status for status, _ in found} == {200}
    assert all(size > KEYS * 60 for _, size in found)


def test_histories_that_nobody_takes(target: Target, large_run: str) -> None:
    question = target.post(
        "/api/runfold/v1/series:history", json.dumps({"runs": [large_run], "metrics": ["k"]}).encode()
    )
    with healthy(target), ExitStack() as stack:
        for _ in range(12):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(target.address)
            one.sendall(question)
            threading.Thread(target=_taken_slowly, args=(one,), daemon=True).start()
        time.sleep(LEAST_SECONDS * soak_factor(10))


def _taken_slowly(one: socket.socket) -> None:
    """Read 1 kB, and no more than another one every second."""
    try:
        while one.recv(1024):
            time.sleep(1.0)
    except OSError:
        pass
