"""Generate load on a tracking server from separate processes, with the same light client for every server."""

import http.client
import json
import multiprocessing
import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

PREFIX = "/api/2.0/mlflow/"
GIVE_UP = 30.0
"""Seconds after which a request is given up, and counts as so long."""
_spawn = multiprocessing.get_context("spawn")
Json = dict[str, Any]


class Client:
    """One connection that stays open."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self.connect()

    def connect(self) -> None:
        """Open the connection, also after a request was given up."""
        self._connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=GIVE_UP)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """The answer's bytes; RuntimeError if it is no success."""
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, PREFIX + path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        read = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {read[:300]!r}")
        return read

    def new_run(self, experiment: str = "0") -> str:
        """Id of a new run."""
        answer = json.loads(self.ask("POST", "runs/create", {"experiment_id": experiment, "start_time": 1}))
        return str(answer["run"]["info"]["run_id"])


def points(first_step: int, count: int = 1000, keys: int = 1) -> list[Json]:
    """Metrics of one log-batch, all distinct: `keys` series, their next steps, noise."""
    return [
        {"key": f"loss{n % keys}", "value": random.random(), "timestamp": 1_700_000_000_000 + n, "step": first_step + n}
        for n in range(count)
    ]


def _request(client: Client, kind: str) -> Callable[[int], object]:
    if kind in REGISTRY_KINDS:
        return _registry_request(client, kind)
    run = client.new_run()
    match kind:
        case "create_run":
            return lambda n: client.ask("POST", "runs/create", {"experiment_id": "0", "start_time": n})
        case "log_metric":
            return lambda n: client.ask(
                "POST", "runs/log-metric", {"run_id": run, "key": "m", "value": n / 7, "timestamp": n, "step": n}
            )
        case "log_param":
            return lambda n: client.ask("POST", "runs/log-parameter", {"run_id": run, "key": f"p{n}", "value": "1"})
        case "log_batch":
            return lambda n: client.ask("POST", "runs/log-batch", {"run_id": run, "metrics": points(1000 * n, keys=10)})
        case "get_run":
            for n in range(10):
                client.ask("POST", "runs/log-parameter", {"run_id": run, "key": f"p{n}", "value": "1"})
                body = {"run_id": run, "key": f"m{n}", "value": n, "timestamp": n, "step": n}
                client.ask("POST", "runs/log-metric", body)
            return lambda n: client.ask("GET", f"runs/get?run_id={run}")
    raise ValueError(kind)


REGISTRY_KINDS = ("create_model", "create_version", "set_alias", "set_version_tag", "transition_stage", "get_by_alias")


def _registry_request(client: Client, kind: str) -> Callable[[int], object]:
    """Each client works on a model of its own, with two versions."""
    name = f"m{random.getrandbits(64):x}"
    client.ask("POST", "registered-models/create", {"name": name})
    version = {"name": name, "source": "s3://bucket/model"}
    for _ in range(2):
        client.ask("POST", "model-versions/create", version)
    alias = {"name": name, "alias": "prod"}
    client.ask("POST", "registered-models/alias", alias | {"version": "1"})
    stages = ("Staging", "Production")
    match kind:
        case "create_model":
            return lambda n: client.ask("POST", "registered-models/create", {"name": f"{name}-{n}"})
        case "create_version":
            return lambda n: client.ask("POST", "model-versions/create", version)
        case "set_alias":
            return lambda n: client.ask("POST", "registered-models/alias", alias | {"version": str(n % 2 + 1)})
        case "set_version_tag":
            tag = {"name": name, "version": "1", "key": "checked"}
            return lambda n: client.ask("POST", "model-versions/set-tag", tag | {"value": str(n)})
        case "transition_stage":
            moved = {"name": name, "version": "1", "archive_existing_versions": True}
            return lambda n: client.ask("POST", "model-versions/transition-stage", moved | {"stage": stages[n % 2]})
        case "get_by_alias":
            return lambda n: client.ask("GET", f"registered-models/alias?name={name}&alias=prod")
    raise ValueError(kind)


@dataclass(frozen=True)
class Load:
    """What so many clients saw: seconds of each request, in the order of their size, and requests a second."""

    times: Sequence[float]
    rate: float

    def at(self, part: float) -> float:
        """Milliseconds that this part of the requests did not exceed."""
        return self.times[min(len(self.times) - 1, int(len(self.times) * part))] * 1e3


def _client(url: str, kind: str, seconds: float, rate: float, ready: Any, go: Any, out: Any) -> None:
    client = Client(url)
    request = _request(client, kind)
    for n in range(5):
        request(n)
    ready.release()
    go.wait()
    # Until all clients are ready takes longer than some servers keep an idle connection.
    client.connect()
    times: list[float] = []
    n, began = 5, time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        if rate and (early := began + (n - 5) / rate - now) > 0:
            time.sleep(early)
            now = time.perf_counter()
        request(n)
        times.append(time.perf_counter() - now)
        n += 1
    out.put((times, time.perf_counter() - began))


class Running:
    """Load that has begun; `result` waits for its end."""

    def __init__(self, url: str, kind: str, clients: int, seconds: float, rate: float = 0.0) -> None:
        ready, go, self._out = _spawn.Semaphore(0), _spawn.Event(), _spawn.Queue()
        self._processes = [
            _spawn.Process(target=_client, args=(url, kind, seconds, rate / clients, ready, go, self._out), daemon=True)
            for _ in range(clients)
        ]
        for process in self._processes:
            process.start()
        for _ in self._processes:
            if not ready.acquire(timeout=120):
                raise RuntimeError(f"a client of {kind} did not begin")
        go.set()

    def result(self) -> Load:
        """What all clients saw."""
        found = [self._out.get(timeout=300) for _ in self._processes]
        for process in self._processes:
            process.join()
        return Load(sorted(t for times, _ in found for t in times), sum(len(times) / s for times, s in found))


def load(url: str, kind: str, clients: int, seconds: float) -> Load:
    """Requests of one kind from so many clients, as fast as they are answered."""
    return Running(url, kind, clients, seconds).result()


def timed(client: Client, request: Callable[[int], object], count: int, most_seconds: float = 20.0) -> Load:
    """One client's requests one after the other, until the time is over, or one is given up."""
    times: list[float] = []
    began = time.perf_counter()
    for n in range(count):
        at = time.perf_counter()
        try:
            request(n)
        except TimeoutError:
            client.connect()
            return Load([*times, GIVE_UP], 0.0)
        times.append(time.perf_counter() - at)
        if time.perf_counter() - began > most_seconds:
            break
    return Load(sorted(times), len(times) / (time.perf_counter() - began))


def history(client: Client, run: str, key: str, page: int | None) -> int:
    """Read a history as MLflow's client does, page by page (or at once); answers the number of points."""
    count, token = 0, ""
    while True:
        path = f"metrics/get-history?run_id={run}&metric_key={key}"
        path += f"&max_results={page}" if page else ""
        path += f"&page_token={quote(token)}" if token else ""
        answer = json.loads(client.ask("GET", path))
        count += len(answer["metrics"])
        token = answer.get("next_page_token", "")
        if not token:
            return count
