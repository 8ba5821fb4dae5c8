"""The two programs that a stack runs beside the services: the server and the worker, as processes of their own."""

import asyncio
import functools
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from runfold.birth import LogInfo, open_log
from runfold.errors import LogNotBorn, LogUnavailable
from runfold.reading import read_system
from runfold_consumers.health import serve_health
from runfold_consumers.partition import Backoff
from runfold_consumers.worker import Worker, WorkerConfig
from runfold_server.app import listening_socket, serve
from runfold_server.config import ServerConfig

from .errors import PortTaken
from .release import RELEASE
from .services import Services
from .settings import Settings

DEFAULT_PORT = 5000


def run_server(settings: Settings, services: Services) -> None:
    """Serve the API until SIGTERM."""
    config = ServerConfig(
        kafka=services.kafka,
        dsn=services.postgres,
        namespace=settings.namespace,
        host=settings.host,
        port=DEFAULT_PORT if settings.port is None else settings.port,
        workers=settings.server_workers,
        read_wait=settings.read_wait,
    )
    try:
        listener = listening_socket(config.host, config.port)
    except OSError:
        raise PortTaken("the server", config.host, config.port) from None
    structlog.get_logger().info("serving", url=f"http://{config.host}:{listener.getsockname()[1]}")
    serve(config, listener)


async def run_worker(settings: Settings, services: Services) -> None:
    """Work until SIGTERM or SIGINT."""
    await until_signalled(_work(settings, services))


async def _work(settings: Settings, services: Services) -> None:
    info = await _wait_for_log(services.kafka, settings.namespace)
    worker = Worker(
        WorkerConfig(
            kafka=services.kafka,
            dsn=services.postgres,
            namespace=settings.namespace,
            partitions=info.partitions,
            release=RELEASE,
            read_system=functools.partial(read_system, services.kafka, settings.namespace),
        )
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_health(worker, settings.host, settings.worker_port or free_port(settings.host)))
        group.create_task(worker.run())


async def _wait_for_log(kafka: str, namespace: str) -> LogInfo:
    backoff, told = Backoff(), ""
    while True:
        try:
            return await open_log(kafka, namespace)
        except (KafkaError, OSError, TimeoutError, LogNotBorn, LogUnavailable) as error:
            if str(error) != told:
                structlog.get_logger().warning("waiting for the log", error=str(error))
                told = str(error)
            await backoff.pause()


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; SIGTERM, SIGINT or SIGHUP cancel it, and it ends in order."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def free_port(host: str) -> int:
    """A port that is free now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def command(name: str) -> list[str]:
    """Command line of one of our programs in a process of its own."""
    return [sys.executable, "-m", "runfold_stack", name]


def environment(settings: Settings) -> dict[str, str]:
    """The environment of such a process: ours, with the settings as they were resolved."""
    return {**os.environ, **settings.variables(), "PYTHONUNBUFFERED": "1"}
