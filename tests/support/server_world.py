"""A whole Runfold in this process: real Kafka and Postgres, a worker, two API servers. For tests of the server."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import uvicorn

from runfold.birth import Birth, create_log
from runfold.reading import read_system
from runfold_consumers.worker import Worker, WorkerConfig
from runfold_projections.migrate import migrate
from runfold_server.app import create_app, listening_socket
from runfold_server.config import ServerConfig
from runfold_stack.embedded import RunningStack, embedded_stack

NAMESPACE = "served"
PARTITIONS = 3


@dataclass(frozen=True)
class World:
    """Where two servers of one installation answer, and the parts beneath them."""

    uris: tuple[str, str]
    kafka: str
    dsn: str
    stack: RunningStack
    loop: asyncio.AbstractEventLoop

    def client(self, server: int = 0) -> httpx2.Client:
        return httpx2.Client(base_url=self.uris[server], timeout=30)


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """The test's process keeps its own."""


@asynccontextmanager
async def _world(directory: Path) -> AsyncIterator[World]:
    async with embedded_stack(directory) as stack:
        kafka, dsn = stack.endpoints.kafka, stack.endpoints.postgres
        assert kafka is not None
        assert dsn is not None
        await create_log(kafka, NAMESPACE, Birth(partitions=PARTITIONS), release="test")
        await migrate(dsn, NAMESPACE)
        system = functools.partial(read_system, kafka, NAMESPACE)
        worker = Worker(WorkerConfig(kafka, dsn, NAMESPACE, PARTITIONS, "test", system))
        config = ServerConfig(
            kafka, dsn, NAMESPACE, kafka_timeout=3, ends_timeout=2, read_wait=5, postgres_timeout=3, acquire_timeout=2
        )
        async with AsyncExitStack() as exits, asyncio.TaskGroup() as running:
            work = running.create_task(worker.run())
            servers, uris = [], []
            for _ in range(2):
                listener = exits.enter_context(listening_socket("127.0.0.1", 0))
                server = _Server(uvicorn.Config(create_app(config), log_config=None, ws="none"))
                running.create_task(server.serve([listener]))
                servers.append(server)
                uris.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
            try:
                yield World((uris[0], uris[1]), kafka, dsn, stack, asyncio.get_running_loop())
            finally:
                work.cancel()
                for server in servers:
                    server.should_exit = True


@contextmanager
def world(directory: Path) -> Iterator[World]:
    """Runs a world in a thread of its own, so that tests may call it as any client does."""
    ready: list[World] = []
    failures: list[BaseException] = []
    started, stop = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with _world(directory) as made:
            ready.append(made)
            started.set()
            await stop.wait()

    def main() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            failures.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=main, name="world")
    thread.start()
    started.wait()
    try:
        if ready:
            _await_ready(ready[0])
            yield ready[0]
    finally:
        if ready and thread.is_alive():
            ready[0].loop.call_soon_threadsafe(stop.set)
        thread.join()
        if failures:
            raise failures[0]


def _await_ready(made: World) -> None:
    for uri in made.uris:
        transport = httpx2.HTTPTransport(retries=20)
        with httpx2.Client(base_url=uri, transport=transport, timeout=30) as client:
            for _ in range(100):
                if client.get("/health/ready").status_code == 200:
                    break
                threading.Event().wait(0.1)
            assert client.get("/health/ready").status_code == 200
