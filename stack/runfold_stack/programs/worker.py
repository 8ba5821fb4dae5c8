"""The worker as a program."""

import asyncio
import functools
import gc
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from runfold_consumers.runtime.backoff import Backoff
from runfold_consumers.runtime.reaction import Reaction
from runfold_consumers.webhooks.delivery_policy import DeliveryPolicy
from runfold_consumers.webhooks.reaction import WebhookReaction
from runfold_consumers.worker.config import WorkerConfig
from runfold_consumers.worker.health import serve_health
from runfold_consumers.worker.worker import Worker
from runfold_log.admin import open_log
from runfold_log.cluster import KafkaCluster
from runfold_log.errors import LogNotCreated, LogUnavailable
from runfold_log.system import read_system
from runfold_projections.control.leases import LIVE, REPLAY
from runfold_server.security.callers import Callers
from runfold_server.security.guard import Guard
from runfold_server.security.timeouts import BoundedProtocol
from runfold_stack.config.listening import check_can_listen, free_port
from runfold_stack.config.programs import command, environment
from runfold_stack.config.release import RELEASE
from runfold_stack.config.services import Services
from runfold_stack.config.settings import Settings
from runfold_stack.config.signals import until_signalled

REPLAY_NICE, REPLAY_GRACE = 5, 8.0


def collect_seldom() -> None:
    """A fold keeps thousands of runs in memory and makes no cycles: looking through them again and again took a third
    of its time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def run_replayer(settings: Settings, services: Services) -> None:
    """Fold what is replayed beside the live generations, until standard input ends or a signal comes."""
    os.nice(REPLAY_NICE)
    collect_seldom()
    await until_signalled(_until_input_ends(Worker(_config(settings, services, kinds=(REPLAY,))).run()))


async def _until_input_ends(work: Coroutine[Any, Any, None]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        await reader.read()
        task.cancel()
        await asyncio.wait({task}, timeout=REPLAY_GRACE)
        if not task.done():
            # A client of Kafka may swallow the cancellation, and nobody is left who would ask once more.
            os._exit(1)


async def run_worker(settings: Settings, services: Services) -> None:
    """Work until SIGTERM, SIGINT or SIGHUP."""
    collect_seldom()
    # uvicorn would end the process in the middle of everything if it could not listen.
    check_can_listen("the worker", settings.host, settings.worker_port)
    await until_signalled(_work(settings, services))


def reactions(settings: Settings) -> tuple[Reaction, ...]:
    """Make all reactions of a live worker, with their settings."""
    webhooks = DeliveryPolicy(
        frozenset(settings.webhook_schemes.split(",")),
        private=settings.webhook_private,
        timeout=settings.webhook_timeout,
        attempts=settings.webhook_attempts,
    )
    return (WebhookReaction(webhooks),)


async def _work(settings: Settings, services: Services) -> None:
    resolved = settings.with_kafka(services.kafka).model_copy(update={"postgres": services.postgres})
    config = _config(
        settings,
        services,
        kinds=(LIVE,),
        replay_command=command("replay"),
        replay_environment=environment(resolved),
        replay_processes=settings.replay_processes,
        reactions=reactions(settings),
    )
    worker = Worker(config)
    async with asyncio.TaskGroup() as group:
        port = settings.worker_port or free_port(settings.host)
        callers = Callers(settings.allowed_host_list, settings.allowed_origin_list)
        group.create_task(serve_health(worker, settings.host, port, lambda app: Guard(app, callers), BoundedProtocol))
        group.create_task(worker.run())


def _config(settings: Settings, services: Services, **more: Any) -> WorkerConfig:
    return WorkerConfig(
        kafka=services.kafka,
        dsn=services.postgres,
        namespace=settings.namespace,
        partitions=0,
        wait_for_log=functools.partial(_wait_for_log, services.kafka, settings.namespace),
        release=RELEASE,
        standby_seconds=settings.standby_hours * 3600,
        read_system=functools.partial(read_system, services.kafka, settings.namespace),
        **more,
    )


async def _wait_for_log(kafka: KafkaCluster, namespace: str, tell: Callable[[str], None]) -> int:
    """How many partitions runs and metrics have, as soon as that can be known."""
    backoff, reported = Backoff(), ""
    while True:
        try:
            return (await open_log(kafka, namespace)).partitions
        except (OSError, TimeoutError, LogNotCreated, LogUnavailable) as error:
            if str(error) != reported:
                structlog.get_logger().warning("waiting_for_log", error=str(error))
                reported = str(error)
                tell(reported)
            await backoff.pause()
