"""`runfold up`: the services, the log, the read models, the worker and the server, as one thing."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx2

from runfold.birth import Birth, create_log
from runfold_projections.migrate import migrate

from .embedded import RunningStack, StackFile, embedded_stack
from .embedded.ports import choose, is_free
from .errors import PortTaken
from .programs import DEFAULT_PORT, command, environment
from .release import RELEASE
from .settings import Settings
from .supervisor import ChildSpec, PartState, Progress, no_progress


@dataclass(frozen=True, slots=True)
class Up:
    """A whole installation that runs: where it answers, and the stack to act on."""

    url: str
    worker_url: str
    kafka: str
    postgres: str
    stack: RunningStack


@asynccontextmanager
async def runfold_up(settings: Settings, on_progress: Progress = no_progress) -> AsyncIterator[Up]:
    """Run an installation for as long as the block lasts. Raises what `embedded_stack` raises, and PortTaken."""
    async with embedded_stack(
        settings.data_dir,
        host=settings.host,
        kafka=settings.kafka is None,
        postgres=settings.postgres is None,
        durability=settings.durability,
        on_progress=on_progress,
    ) as stack:
        kafka = settings.kafka or stack.endpoints.kafka
        postgres = settings.postgres or stack.endpoints.postgres
        assert kafka is not None
        assert postgres is not None
        await prepare(settings, kafka, postgres, partial(on_progress, "log"))
        remembered = stack.data.remembered_ports()
        port = server_port(settings, remembered.get("server"))
        worker_port = choose(settings.host, settings.worker_port or remembered.get("worker"), avoid={port})
        resolved = settings.model_copy(
            update={"kafka": kafka, "postgres": postgres, "port": port, "worker_port": worker_port}
        )
        up = Up(_url(settings.host, port), _url(settings.host, worker_port), kafka, postgres, stack)
        await stack.add(_program("worker", resolved, stack, up.worker_url))
        await stack.add(_program("server", resolved, stack, up.url))
        stack.data.announce(
            StackFile(
                os.getpid(),
                stack.endpoints.kafka,
                stack.endpoints.postgres,
                settings.namespace,
                up.url,
                up.worker_url,
                {**remembered, "server": port, "worker": worker_port},
            )
        )
        yield up


async def prepare(
    settings: Settings, kafka: str, postgres: str, tell: Callable[[PartState, str], None] = lambda *_: None
) -> None:
    """Give birth to the log and to the read models where they are missing."""
    tell("preparing", "topics")
    await create_log(kafka, settings.namespace, birth_of(settings), release=RELEASE)
    tell("preparing", "tables")
    await migrate(postgres, settings.namespace)
    tell("ready", "")


def birth_of(settings: Settings) -> Birth:
    """How the settings want a log to be born."""
    return Birth(
        partitions=settings.partitions,
        replication=settings.replication,
        min_insync_replicas=settings.min_insync_replicas,
        retention_ms=settings.retention_ms,
    )


def server_port(settings: Settings, remembered: int | None) -> int:
    """The port that was asked for, or PortTaken; else 5000, the last one, or a free one."""
    if settings.port:
        if not is_free(settings.host, settings.port):
            raise PortTaken("the server", settings.host, settings.port)
        return settings.port
    if settings.port is None and is_free(settings.host, DEFAULT_PORT):
        return DEFAULT_PORT
    return choose(settings.host, remembered)


def _program(name: str, settings: Settings, stack: RunningStack, url: str) -> ChildSpec:
    async def argv() -> list[str]:
        return command(name)

    return ChildSpec(
        name=name,
        command=argv,
        ready=answers(f"{url}/health/ready"),
        log=stack.data.logs / f"{name}.log",
        env=environment(settings),
        grace=12.0,
    )


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    """A question for the supervisor: does this URL answer 200?"""

    async def ask() -> bool:
        try:
            async with httpx2.AsyncClient(timeout=2.0, trust_env=False) as client:
                return (await client.get(url)).status_code == 200
        except httpx2.HTTPError:
            return False

    return ask


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
