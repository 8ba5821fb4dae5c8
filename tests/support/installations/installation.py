"""An installation for one test: a namespace of its own on the session's services, with workers and servers as
processes.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runfold_log.admin import LogInfo, create_log
from runfold_log.reader import LogReader
from runfold_log.topics import LogSettings
from runfold_projections.control.migrations import migrate
from runfold_projections.core.canonical import Row
from runfold_projections.core.projection import Projection
from runfold_projections.generations.canonical_rows import canonical_rows
from runfold_projections.generations.generations import create_generation
from runfold_projections.postgres.connection import open_pool
from runfold_projections.postgres.read_transaction import checkpoints, has_reached, read_transaction
from runfold_schemas.positions.position import Partition
from tests.support.services.running import Services


@dataclass
class Program:
    """One of our programs as a process that a test may kill and start again. It always answers at the same URL."""

    name: str
    port: int
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start without waiting."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runfold_stack", self.name], stdout=output, stderr=output, env=self.env
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal, wait for the end, answer the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def is_ready(self) -> bool:
        """Whether /health/ready answers 200 now."""
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once it is ready; AssertionError with the end of its log if it does not become so."""
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)


@dataclass
class Installation:
    """A namespace with its log and read models."""

    services: Services
    namespace: str
    info: LogInfo
    directory: Path
    exits: ExitStack

    def program(self, name: str, **settings: object) -> Program:
        """A `server` or a `worker`, started; killed at the end of the test."""
        port = free_port()
        number = len(list(self.directory.glob(f"{name}*.log")))
        env = {
            **os.environ,
            **self.services.kafka_variables,
            "RUNFOLD_POSTGRES": self.services.postgres,
            "RUNFOLD_NAMESPACE": self.namespace,
            **s3_variables(self.services),
            "RUNFOLD_PORT" if name == "server" else "RUNFOLD_WORKER_PORT": str(port),
            **{f"RUNFOLD_{key.upper()}": str(value) for key, value in settings.items()},
        }
        program = Program(name, port, self.directory / f"{name}{number}.log", env)
        program.start()
        self.exits.callback(_end, program)
        return program

    def server(self, **settings: object) -> Program:
        """A server that is ready."""
        program = self.program("server", **settings)
        program.wait_ready()
        return program

    def worker(self, **settings: object) -> Program:
        """A worker that is ready."""
        program = self.program("worker", **settings)
        program.wait_ready()
        return program

    async def ends(self) -> dict[Partition, int]:
        """The log's ends now."""
        partitions = [part for projection in Projection for part in self.info.all_partitions(projection.topic)]
        async with LogReader(self.services.kafka, self.namespace) as reader:
            return await reader.end_offsets(partitions)

    async def settled(self, timeout: float = 120.0) -> None:
        """Return once the live generations have folded everything that is in the log now."""
        want = await self.ends()
        async with (
            asyncio.timeout(timeout),
            open_pool(self.services.postgres, self.namespace, application="test") as pool,
        ):
            while True:
                async with read_transaction(pool) as connection:
                    have = await checkpoints(connection)
                if has_reached(have, want):
                    return
                await asyncio.sleep(0.05)

    async def rows(self, schema_names: dict[Projection, str] | None = None) -> dict[Projection, list[tuple[str, Row]]]:
        """Canonical rows of the live generations, or of the given ones."""
        found = {}
        for projection in Projection:
            name = (schema_names or {}).get(projection, f"{self.namespace}_{projection.value}_1")
            async with (
                open_pool(self.services.postgres, name, application="test", timeout=120) as pool,
                read_transaction(pool) as connection,
            ):
                found[projection] = [row async for row in canonical_rows(connection, projection)]
        return found

    async def replayed(self, timeout: float = 240.0) -> dict[Projection, list[tuple[str, Row]]]:
        """Canonical rows of a clean replay: new generations beside the live ones, folded from the log's start by a
        worker that runs already (or by `program("worker")`).
        """
        schemas = {}
        async with open_pool(self.services.postgres, self.namespace, application="test") as pool:
            for projection in Projection:
                async with pool.acquire() as connection, connection.transaction():
                    schemas[projection] = (await create_generation(connection, self.namespace, projection)).schema_name
        want = await self.ends()
        async with asyncio.timeout(timeout):
            for projection, name in schemas.items():
                mine = {where: end for where, end in want.items() if where.topic is projection.topic}
                async with open_pool(self.services.postgres, name, application="test") as pool:
                    while True:
                        async with read_transaction(pool) as connection:
                            if has_reached(await checkpoints(connection), mine):
                                break
                        await asyncio.sleep(0.1)
        return await self.rows(schemas)


@asynccontextmanager
async def new_installation(
    services: Services, namespace: str, directory: Path, partitions: int = 2
) -> AsyncIterator[Installation]:
    """A fresh namespace; its programs are killed at the end."""
    info = await create_log(services.kafka, namespace, LogSettings(partitions=partitions), release="test")
    await migrate(services.postgres, namespace)
    with ExitStack() as exits:
        yield Installation(services, namespace, info, directory, exits)


def difference(a: dict[Projection, Any], b: dict[Projection, Any]) -> str:
    """The first rows in which two installations differ; empty if they are equal."""
    for projection in Projection:
        left, right = a[projection], b[projection]
        if left != right:
            only_left = [row for row in left if row not in right][:3]
            only_right = [row for row in right if row not in left][:3]
            return f"{projection}: {len(left)} and {len(right)} rows; only left {only_left}; only right {only_right}"
    return ""


def s3_variables(services: Services) -> dict[str, str]:
    """How a server is told of the S3 store; empty where there is none."""
    store = services.s3
    if store is None:
        return {}
    keys = {"RUNFOLD_S3_ACCESS_KEY": store.access_key, "RUNFOLD_S3_SECRET_KEY": store.secret_key}
    return {"RUNFOLD_S3_ENDPOINT": store.endpoint} | {name: key for name, key in keys.items() if key}


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(program: Program) -> None:
    if program.process is not None and program.process.poll() is None:
        program.process.kill()
        program.process.wait(30)
