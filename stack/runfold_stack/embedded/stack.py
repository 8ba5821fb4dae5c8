"""The embedded stack as one thing: `async with embedded_stack(directory) as stack`."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runfold_stack.errors import DiskFull, PortTaken
from runfold_stack.supervision.supervisor import Progress, no_progress, supervise

from . import aot, kafka_login
from . import kafka as kafka_part
from . import postgres as postgres_part
from . import s3 as s3_part
from .datadir import StackFile, hold
from .kafka import KafkaPlace
from .ports import choose, is_free
from .s3 import S3Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from runfold_log.cluster import KafkaCluster
    from runfold_stack.supervision.supervisor import ChildSpec, Supervisor

    from .datadir import DataDir
    from .kafka import Durability
    from .postgres import PostgresPlace


@dataclass(frozen=True)
class Endpoints:
    """Where the services answer; None for a part that was not started here."""

    kafka: KafkaCluster | None
    postgres: str | None
    s3: S3Place | None


@dataclass(frozen=True)
class RunningStack:
    """What `embedded_stack` yields."""

    endpoints: Endpoints
    data: DataDir
    supervisor: Supervisor

    def pid(self, name: str) -> int:
        """The process id of a part now; it changes when the part is restarted.

        Raises ProcessLookupError between two lives.
        """
        return self.supervisor.pid(name)

    def kill(self, name: str, signal_number: int) -> None:
        """Sends a signal to a part: for tests of what happens when it dies."""
        self.supervisor.kill(name, signal_number)

    async def wait_ready(self, name: str) -> None:
        """Returns once the part answers (again)."""
        await self.supervisor.wait_ready(name)

    async def add(self, spec: ChildSpec) -> None:
        """Starts one more process, waits until it is ready, and keeps it running; it stops before the parts below it
        do.
        """
        await self.supervisor.add(spec)


@asynccontextmanager
async def embedded_stack(
    data_dir: Path,
    *,
    host: str = "127.0.0.1",
    kafka: bool = True,
    postgres: bool = True,
    s3: bool = True,
    kafka_port: int | None = None,
    durability: Durability = "process",
    on_progress: Progress | None = None,
    kafka_dir: Path | None = None,
    postgres_dir: Path | None = None,
    s3_dir: Path | None = None,
) -> AsyncIterator[RunningStack]:
    """Runs Kafka, Postgres and an S3 store on a data directory for as long as the block lasts.

    Whatever happens to this process, no child outlives it. With `durability="process"` an acknowledged write survives
    the death of every process; with "fsync" that of the machine. `kafka_port` insists on a port; without it the last
    one is taken again if it is free. `kafka_dir`, `postgres_dir` and `s3_dir` put a part's data elsewhere.

    Raises DataDirInUse, PortTaken, MissingPackage, JarError, NoServiceUser, DiskFull or PartFailed.
    """
    progress = on_progress or no_progress
    with hold(data_dir) as data, ExitStack() as cleanup:
        remembered = data.remembered_ports()
        ports: dict[str, int] = {}
        async with supervise(progress) as supervisor:
            cluster = dsn = store = None
            async with asyncio.TaskGroup() as starting:
                if kafka:
                    ports = choose_kafka_ports(host, kafka_port, remembered)
                    directory = (kafka_dir or data.kafka).absolute()
                    log = data.logs / "kafka.log"
                    with full_disk_told("kafka", directory):
                        login = await asyncio.to_thread(kafka_login.make_login, data.kafka)
                    place = KafkaPlace(
                        directory, log, host, ports["kafka"], ports["kafka_controller"], durability, login
                    )
                    cluster = place.cluster
                    starting.create_task(_start_kafka(supervisor, place, progress))
                if postgres:
                    directory = (postgres_dir or data.postgres).absolute()
                    server = await asyncio.to_thread(postgres_part.locate, directory, data.logs / "postgres.log")
                    dsn = server.dsn()
                    cleanup.callback(postgres_part.remove_socket_directory, server)
                    starting.create_task(_start_postgres(supervisor, server, progress))
                if s3:
                    directory = (s3_dir or data.s3).absolute()
                    with full_disk_told("s3", directory):
                        keys = await asyncio.to_thread(s3_part.make_keys, data.s3)
                    s3_ports = s3_part.choose_ports(remembered, avoid=ports.values())
                    store = S3Place(directory, data.logs / "s3.log", keys, s3_ports)
                    ports |= s3_ports
                    cleanup.callback(s3_part.remove_sockets, store)
                    starting.create_task(_start_s3(supervisor, store, progress))
            where = None if store is None else store.endpoint
            brokers = None if cluster is None else cluster.brokers
            data.announce(StackFile(os.getpid(), brokers, dsn, s3=where, ports=remembered | ports))
            yield RunningStack(Endpoints(cluster, dsn, store), data, supervisor)


def choose_kafka_ports(host: str, wanted: int | None, remembered: dict[str, int]) -> dict[str, int]:
    """The broker's two ports: the wanted one or PortTaken; else the remembered ones where free; else free ones."""
    if wanted is not None and not is_free(host, wanted):
        raise PortTaken("kafka", host, wanted)
    clients = wanted or choose(host, remembered.get("kafka"))
    controller = choose("127.0.0.1", remembered.get("kafka_controller"), avoid={clients})
    return {"kafka": clients, "kafka_controller": controller}


async def _start_kafka(supervisor: Supervisor, place: KafkaPlace, progress: Progress) -> None:
    progress("kafka", "preparing", "")
    with full_disk_told("kafka", place.directory):
        classpath = await kafka_part.prepare(place, partial(progress, "kafka", "preparing"))
    cache = aot.cache_file(classpath)
    await supervisor.add(kafka_part.spec(place, classpath, partial(aot.flags, cache)))
    supervisor.in_background(aot.train_when_settled(classpath, cache))


async def _start_postgres(supervisor: Supervisor, place: PostgresPlace, progress: Progress) -> None:
    progress("postgres", "preparing", "")
    with full_disk_told("postgres", place.directory):
        await postgres_part.prepare(place, partial(progress, "postgres", "preparing"))
        await supervisor.add(postgres_part.spec(place))


async def _start_s3(supervisor: Supervisor, place: S3Place, progress: Progress) -> None:
    progress("s3", "preparing", "")
    with full_disk_told("s3", place.directory):
        await supervisor.add(s3_part.spec(place))


@contextmanager
def full_disk_told(part: str, directory: Path) -> Iterator[None]:
    """Turns the system's "no space left" into DiskFull, which names the place."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(part, directory) from error
