"""`runfold up`: the services, the log, the read models, the worker and the server, as one thing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from runfold_log.admin import create_log, upgrade_log
from runfold_log.cluster import KafkaCluster
from runfold_log.topics import LogSettings
from runfold_projections.control.migrations import migrate
from runfold_stack.config.listening import check_can_listen
from runfold_stack.config.programs import DEFAULT_PORT, command, environment
from runfold_stack.config.release import RELEASE
from runfold_stack.config.services import kafka_named, postgres_named
from runfold_stack.config.settings import Settings
from runfold_stack.embedded import RunningStack, StackFile, embedded_stack, read_running
from runfold_stack.embedded.ports import choose, is_free
from runfold_stack.supervision.probe import answers_ok
from runfold_stack.supervision.supervisor import ChildSpec, PartState, Progress, no_progress


@dataclass(frozen=True, slots=True)
class Up:
    """A whole installation that runs: where it answers, and the stack to act on."""

    url: str
    worker_url: str
    kafka: KafkaCluster
    postgres: str
    stack: RunningStack


@asynccontextmanager
async def runfold_up(settings: Settings, on_progress: Progress = no_progress) -> AsyncIterator[Up]:
    """Run an installation for as long as the block lasts.

    Raises what `embedded_stack` raises, BadSetting, PortTaken, ServiceAway, and what making the log and the tables
    raises.
    """
    if read_running(settings.data_dir) is None:  # else the ports are taken by the stack that the next line will name
        check_can_listen("the server", settings.host, settings.port or 0)
        check_can_listen("the worker", settings.host, settings.worker_port)
    async with embedded_stack(
        settings.data_dir,
        kafka=settings.kafka is None,
        postgres=settings.postgres is None,
        s3=settings.s3_endpoint is None,
        durability=settings.durability,
        on_progress=on_progress,
    ) as stack:
        kafka = stack.endpoints.kafka or KafkaCluster(settings.kafka or "", settings.kafka_access())
        postgres = settings.postgres or stack.endpoints.postgres
        assert postgres is not None
        await prepare(settings, kafka, postgres, partial(on_progress, "log"))
        remembered = stack.data.remembered_ports()
        port = server_port(settings, remembered.get("server"))
        worker_port = choose(settings.host, settings.worker_port or remembered.get("worker"), avoid={port})
        resolved = settings.with_kafka(kafka).model_copy(
            update={
                "postgres": postgres,
                "port": port,
                "worker_port": worker_port,
            }
        )
        if stack.endpoints.s3 is not None:
            resolved = resolved.model_copy(
                update={
                    "s3_endpoint": stack.endpoints.s3.endpoint,
                    "s3_access_key": stack.endpoints.s3.keys.access_key,
                    "s3_secret_key": stack.endpoints.s3.keys.secret_key,
                }
            )
        host = reachable(settings.host)
        up = Up(_url(host, port), _url(host, worker_port), kafka, postgres, stack)
        async with asyncio.TaskGroup() as starting:
            starting.create_task(stack.add(_program("worker", resolved, stack, host, worker_port)))
            starting.create_task(stack.add(_program("server", resolved, stack, host, port)))
        stack.data.announce(
            StackFile(
                os.getpid(),
                None if settings.kafka else kafka.brokers,
                stack.endpoints.postgres,
                settings.namespace,
                up.url,
                up.worker_url,
                None if stack.endpoints.s3 is None else stack.endpoints.s3.endpoint,
                {**remembered, "server": port, "worker": worker_port},
            )
        )
        yield up


async def prepare(
    settings: Settings, kafka: KafkaCluster, postgres: str, tell: Callable[[PartState, str], None] = lambda *_: None
) -> None:
    """Give birth to the log and to the read models where they are missing, and bring an embedded log to this release's
    feature level.
    """
    tell("preparing", "topics")
    with kafka_named(kafka):
        await create_log(kafka, settings.namespace, log_settings(settings), release=RELEASE)
        if settings.kafka is None:
            # Whoever writes to an embedded log came with this release, so nobody is left behind.
            await upgrade_log(kafka, settings.namespace, release=RELEASE)
    tell("preparing", "tables")
    with postgres_named(postgres):
        await migrate(postgres, settings.namespace)
    tell("ready", "")


def log_settings(settings: Settings) -> LogSettings:
    """How the settings want a log to be born."""
    return LogSettings(
        partitions=settings.partitions,
        replication=settings.replication,
        min_insync_replicas=settings.min_insync_replicas,
        retention_ms=settings.retention_ms,
    )


def server_port(settings: Settings, remembered: int | None) -> int:
    """The port that was asked for; else 5000, the last one, or a free one."""
    if settings.port:
        return settings.port
    if settings.port is None and is_free(settings.host, DEFAULT_PORT):
        return DEFAULT_PORT
    return choose(settings.host, remembered)


def _program(name: str, settings: Settings, stack: RunningStack, host: str, port: int) -> ChildSpec:
    async def argv() -> list[str]:
        return command(name)

    return ChildSpec(
        name=name,
        command=argv,
        ready=answers_ok(host, port, "/health/ready"),
        log=stack.data.logs / f"{name}.log",
        env=environment(settings),
        grace=12.0,
    )


def reachable(host: str) -> str:
    """Where a client on this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
