"""The worker as a program."""

import asyncio
import functools
import gc

import structlog
from aiokafka.errors import KafkaError

from runfold.birth import open_log
from runfold.errors import LogNotBorn, LogUnavailable
from runfold.reading import read_system
from runfold_consumers.health import serve_health
from runfold_consumers.partition import Backoff
from runfold_consumers.worker import Worker, WorkerConfig

from .listening import check_can_listen, free_port
from .release import RELEASE
from .services import Services
from .settings import Settings
from .signals import until_signalled


async def run_worker(settings: Settings, services: Services) -> None:
    """Work until SIGTERM, SIGINT or SIGHUP."""
    # uvicorn would end the process in the middle of everything if it could not listen.
    check_can_listen("the worker", settings.host, settings.worker_port)
    # A batch makes some hundred thousand objects that die with it and are no cycles: looking for those is time lost.
    gc.set_threshold(100_000, 20, 20)
    await until_signalled(_work(settings, services))


async def _work(settings: Settings, services: Services) -> None:
    worker = Worker(
        WorkerConfig(
            kafka=services.kafka,
            dsn=services.postgres,
            namespace=settings.namespace,
            partitions=0,
            wait_for_log=functools.partial(_wait_for_log, services.kafka, settings.namespace),
            release=RELEASE,
            standby_seconds=settings.standby_hours * 3600,
            read_system=functools.partial(read_system, services.kafka, settings.namespace),
        )
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_health(worker, settings.host, settings.worker_port or free_port(settings.host)))
        group.create_task(worker.run())


async def _wait_for_log(kafka: str, namespace: str) -> int:
    """How many partitions runs and metrics have, as soon as that can be known."""
    backoff, told = Backoff(), ""
    while True:
        try:
            return (await open_log(kafka, namespace)).partitions
        except (KafkaError, OSError, TimeoutError, LogNotBorn, LogUnavailable) as error:
            if str(error) != told:
                structlog.get_logger().warning("waiting for the log", error=str(error))
                told = str(error)
            await backoff.pause()
