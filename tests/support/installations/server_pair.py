"""A whole Runfold in this process: real Kafka and Postgres, a worker, two API servers. For tests of the server."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import threading
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import uvicorn

from runfold_consumers.webhooks.delivery_policy import DeliveryPolicy
from runfold_consumers.webhooks.reaction import WebhookReaction
from runfold_consumers.worker.config import WorkerConfig
from runfold_consumers.worker.worker import Worker
from runfold_log.admin import create_log
from runfold_log.cluster import KafkaCluster
from runfold_log.system import read_system
from runfold_log.topics import LogSettings
from runfold_projections.control.migrations import migrate
from runfold_server.app.application import create_app, listening_socket
from runfold_server.core.config import ServerConfig
from runfold_server.security.timeouts import BoundedProtocol
from runfold_stack.embedded import RunningStack
from tests.support.api.conformance import check
from tests.support.services.running import Services, in_thread

_numbers = itertools.count(1)
PARTITIONS = 3
LOCAL = DeliveryPolicy(frozenset({"http"}), private=True, timeout=2.0, attempts=6)
"""Webhooks may have receivers on this machine."""


@dataclass(frozen=True)
class ServerPair:
    """Where two servers of one installation answer, and the parts beneath them."""

    uris: tuple[str, str]
    namespace: str
    services: Services

    @property
    def stack(self) -> RunningStack:
        return self.services.stack

    @property
    def kafka(self) -> KafkaCluster:
        return self.services.kafka

    @property
    def dsn(self) -> str:
        return self.services.postgres

    def client(self, server: int = 0) -> httpx2.Client:
        """A client of one server; each of its answers is held against the OpenAPI document."""
        return httpx2.Client(base_url=self.uris[server], timeout=30, event_hooks={"response": [check]})

    def log_size(self) -> tuple[int, int]:
        """How many records the log has, and how many of them a fold refused."""
        # A client of httpx2 takes 30 ms to make, for its certificates; this is asked around every single request.
        with urllib.request.urlopen(f"{self.uris[0]}/api/runfold/v1/positions", timeout=30) as answer:
            found = json.load(answer)
        ends = sum(partition["end"] for partition in found["partitions"])
        return ends, asyncio.run(self._refused())

    async def _refused(self) -> int:
        connection = await asyncpg.connect(self.dsn)
        try:
            return int(await connection.fetchval(f'SELECT count(*) FROM "{self.namespace}".rejection'))  # noqa: S608
        finally:
            await connection.close()


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """The test's process keeps its own."""


async def _live(services: Services, ready: Callable[[ServerPair], Coroutine[Any, Any, None]]) -> None:
    namespace = f"served_{next(_numbers)}"
    await create_log(services.kafka, namespace, LogSettings(partitions=PARTITIONS), release="test")
    await migrate(services.postgres, namespace)
    system = functools.partial(read_system, services.kafka, namespace)
    config = WorkerConfig(
        services.kafka, services.postgres, namespace, PARTITIONS, "test", system, reactions=(WebhookReaction(LOCAL),)
    )
    worker = Worker(config)
    config_of_servers = ServerConfig(
        services.kafka,
        services.postgres,
        namespace,
        kafka_timeout=3,
        ends_timeout=2,
        read_wait=5,
        postgres_timeout=3,
        acquire_timeout=2,
        webhook_schemes=("http", "https"),
        s3=services.s3,
        s3_timeout=15,
    )
    async with AsyncExitStack() as exits, asyncio.TaskGroup() as running:
        work = running.create_task(worker.run())
        servers, uris = [], []
        for _ in range(2):
            listener = exits.enter_context(listening_socket("127.0.0.1", 0))
            server = _Server(
                uvicorn.Config(
                    create_app(config_of_servers),
                    log_config=None,
                    ws="none",
                    http=BoundedProtocol,
                    proxy_headers=False,
                )
            )
            running.create_task(server.serve([listener]))
            servers.append(server)
            uris.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            await ready(ServerPair((uris[0], uris[1]), namespace, services))
        finally:
            work.cancel()
            for server in servers:
                server.should_exit = True


@contextmanager
def server_pair(services: Services) -> Iterator[ServerPair]:
    """Runs a world in a thread of its own, so that tests may call it as any client does."""
    with in_thread(functools.partial(_live, services)) as made:
        _await_ready(made)
        yield made


def _await_ready(made: ServerPair) -> None:
    for uri in made.uris:
        transport = httpx2.HTTPTransport(retries=20)
        with httpx2.Client(base_url=uri, transport=transport, timeout=30) as client:
            for _ in range(100):
                if client.get("/health/ready").status_code == 200:
                    break
                threading.Event().wait(0.1)
            assert client.get("/health/ready").status_code == 200
