"""A receiver of webhooks with moods: it takes a delivery, refuses it, hangs, or breaks the connection, as its seed
says.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

MOODS: dict[str, tuple[str, ...]] = {
    "/good": ("takes",),
    "/moody": ("takes", "refuses", "hangs", "breaks", "busy", "redirects"),
    "/never": ("refuses", "hangs", "breaks", "redirects"),
    "/gone": ("gone",),
}
_STATUS = {"takes": 204, "refuses": 500, "busy": 429, "redirects": 302, "gone": 410}


@dataclass(frozen=True)
class Try:
    """One request as it came. `mood`: what it was given."""

    path: str
    delivery_id: str
    body: str
    mood: str

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class FailingReceiver:
    """What came. Whoever was taken once is taken again: a receiver that remembers ids."""

    seed: int
    tries: list[Try] = field(default_factory=list)
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, delivery_id: str) -> list[Try]:
        return [one for one in list(self.tries) if one.delivery_id == delivery_id]

    def taken(self) -> set[str]:
        return {one.delivery_id for one in list(self.tries) if one.mood == "takes"}

    def meet(self, path: str, delivery_id: str, body: str) -> str:
        with self._lock:
            before = self.of(delivery_id)
            mood = Random(f"{self.seed} {path} {delivery_id} {len(before)}").choice(MOODS[path])
            if any(one.mood == "takes" for one in before):
                mood = "takes"
            self.tries.append(Try(path, delivery_id, body, mood))
            return mood


@contextmanager
def listening(state: FailingReceiver, hang: float) -> Iterator[None]:
    """It listens, on the port where it listened before; whoever is left hanging waits so many seconds."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            mood = state.meet(self.path, self.headers["X-MLflow-Delivery-Id"], body)
            if mood == "hangs":
                closing.wait(hang)
            if mood in ("hangs", "breaks"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(_STATUS[mood])
            self.send_header("Content-Length", "0")
            if mood == "redirects":
                self.send_header("Location", "/good")
            if mood == "busy":
                self.send_header("Retry-After", "1")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever told it has gone."""

    server = Server(("127.0.0.1", state.port), Handler)
    state.port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
