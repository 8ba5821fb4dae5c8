"""A double of our server, as far as the SDK talks to it: experiments, and events as batches.

On a real socket, with faults on demand.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import CONTENT_TYPE, Outgoing, decode_batch
from runfold_schemas.codec.envelope import Envelope
from runfold_schemas.codec.headers import parse_headers
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.positions.topics import Topic

EVENTS = "/api/runfold/v1/events"
RUN = "/api/2.0/mlflow/runs/get"
EXPERIMENTS = "/api/2.0/mlflow/experiments"


@dataclass(frozen=True)
class Fault:
    """What happens to one request for events: an answer instead of the work, or the work without an answer."""

    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    """Take the records, then cut the connection: the client can't know."""
    delay: float = 0.0
    foreign: bool = False
    """The answer is not our server's."""


@dataclass(frozen=True)
class Post:
    """A request for events as it arrived; `taken` says whether its records count."""

    wait: str
    body: bytes
    at: float
    taken: bool


@dataclass(frozen=True)
class Got:
    """One record of a request, read."""

    topic: Topic
    key: bytes
    envelope: Envelope
    event: Event


class EventServer:
    """What the double was sent and how it behaves. `faults` are used up one per request for events, first first."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.faults: list[Fault] = []
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        """Runs that were there before, as `runs/get` shows them."""
        self.proxy: int | None = None
        """An answer that a proxy gives to all that is not about events."""
        self.decide: Callable[[Got], dict[str, str] | None] = lambda got: None
        """An outcome for a record, or None for the usual one."""
        self.bad: Callable[[Got], bool] = lambda got: False
        """Whether a record makes its whole request a bad one."""
        self.too_large: Callable[[Got], bool] = lambda got: False
        """Whether a record makes its whole request one that a proxy refuses."""
        self.requests = 0
        """For events, with those that hang."""
        self.lose_create_race = False
        self.blocked = threading.Event()
        self.blocked.set()
        """Cleared: requests for events hang."""
        self.lock = threading.Lock()
        self.uri = ""

    def received(self) -> list[Got]:
        """Every record of every request that was taken, repeated ones too, in order of arrival."""
        with self.lock:
            posts = list(self.posts)
        return [read(record) for post in posts if post.taken for record in decode_batch(post.body)]

    def folded(self) -> list[Got]:
        """The records as the folds would have them: each (topic, key, writer, sequence) once."""
        seen: set[tuple[Any, ...]] = set()
        kept = []
        for got in self.received():
            identity = (got.topic, got.key, got.envelope.writer.id, got.envelope.sequence)
            if identity not in seen:
                seen.add(identity)
                kept.append(got)
        return kept

    def events(self) -> list[Event]:
        """The folded events, in order."""
        return [got.event for got in self.folded()]

    def rows(self) -> list[tuple[tuple[str, ...], int, list[float]]]:
        """Keys, step and values of all rows, in order."""
        return [
            (frame.keys, frame.steps[r], list(frame.values[r * len(frame.keys) : (r + 1) * len(frame.keys)]))
            for event in self.events()
            if isinstance(event, MetricsLogged)
            for frame in event.frames
            for r in range(frame.rows)
        ]

    def of(self, kind: type[Any]) -> list[Any]:
        """The folded events of a class, in order."""
        return [event for event in self.events() if isinstance(event, kind)]


def read(record: Outgoing) -> Got:
    return Got(record.topic, record.key, parse_headers(record.headers), wire.decode(record.value))


@contextmanager
def event_server(port: int = 0, state: EventServer | None = None) -> Iterator[EventServer]:
    """The double on a port of 127.0.0.1, a free one if 0; with `state`, one that was there before and comes back."""
    state = served = state or EventServer()

    class Handler(_Handler):
        double: EventServer = served

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is part of the game."""

    server = Server(("127.0.0.1", port), Handler)
    state.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    double: EventServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.double.proxy is not None:
            self._say(self.double.proxy, {"message": "who are you?"})
            return
        found: dict[str, Any] | None = None
        if url.path == RUN:
            found = {"run": {"info": run}} if (run := self.double.runs.get(query["run_id"])) else None
        elif url.path == f"{EXPERIMENTS}/get-by-name":
            found = {"experiment": one} if (one := self.double.experiments.get(query["experiment_name"])) else None
        elif url.path == f"{EXPERIMENTS}/get":
            number = query["experiment_id"]
            here = [one for one in self.double.experiments.values() if one["experiment_id"] == number]
            found = {"experiment": here[0]} if here else None
        self._say(200, found) if found else self._say(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"})

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if url.path == EVENTS:
            self._events(body, parse_qs(url.query)["wait"][0])
        elif url.path == f"{EXPERIMENTS}/create":
            self._create(json.loads(body)["name"])
        else:
            self._say(404, {"message": "no such page"})

    def _create(self, name: str) -> None:
        double = self.double
        with double.lock:
            exists = name in double.experiments
            number = len(double.experiments) + 1
            if not exists:
                double.experiments[name] = {
                    "experiment_id": str(number),
                    "name": name,
                    "artifact_location": f"s3://bucket/{number}",
                    "lifecycle_stage": "active",
                }
        if exists or double.lose_create_race:
            self._say(400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": f"{name} exists"})
        else:
            self._say(200, {"experiment_id": str(number)})

    def _events(self, body: bytes, wait: str) -> None:
        double = self.double
        double.requests += 1
        double.blocked.wait(20)
        assert self.headers["Content-Type"] == CONTENT_TYPE
        with double.lock:
            fault = double.faults.pop(0) if double.faults else None
            if fault is None and any(double.bad(read(record)) for record in decode_batch(body)):
                fault = Fault(400)
            if fault is None and any(double.too_large(read(record)) for record in decode_batch(body)):
                fault = Fault(413, foreign=True)
            taken = fault is None or fault.drop or fault.status == 200
            double.posts.append(Post(wait, body, time.monotonic(), taken))
        if fault is not None:
            time.sleep(fault.delay)
            if fault.drop:
                # RST instead of FIN: the client sees a lost connection, not an end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if fault.status != 200:
                whose = {} if fault.foreign else {"error_code": "SOME_CODE"}
                self._say(fault.status, {**whose, "message": "not now"}, fault.headers)
                return
        usual = {"outcome": "accepted" if wait == "outcome" else "appended", "code": "", "message": ""}
        self._say(200, {"results": [double.decide(read(record)) or usual for record in decode_batch(body)]})

    def _say(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
