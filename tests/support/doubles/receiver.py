"""A receiver of webhooks on a real socket: notes what it is told, and answers what a test wants."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Post:
    """One delivery as it came, whatever was answered."""

    path: str
    headers: dict[str, str]
    body: str
    status: int

    @property
    def id(self) -> str:
        return self.headers["x-mlflow-delivery-id"]

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """What came, by the path of its address. `statuses` are used up one per delivery, first first; then 200."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)
    """Cleared: deliveries to /dead hang."""
    hung: threading.Event = field(default_factory=threading.Event)
    """Set: one came and hangs, or hung."""

    def at(self, path: str) -> list[Post]:
        return [post for post in list(self.posts) if post.path == path]

    def taken(self, path: str) -> list[Post]:
        return [post for post in self.at(path) if post.status == 200]


@contextmanager
def receiver(port: int = 0, state: Receiver | None = None) -> Iterator[Receiver]:
    """A receiver on a free port, or on one where it was before."""
    own = state or Receiver()
    own.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            if self.path.startswith("/dead"):
                own.hung.set()
                own.answers.wait(30)
            status = own.statuses.pop(0) if own.statuses else 200
            own.posts.append(Post(self.path, headers, body, status))
            try:
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")
            except OSError:
                """Whoever told it has gone."""

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", port), Handler)
    own.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield own
    finally:
        own.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()
