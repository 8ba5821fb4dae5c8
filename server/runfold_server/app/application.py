"""The application: its services are opened and closed together, and a process serves it."""

import asyncio
import functools
import gc
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.supervisors import Multiprocess

from runfold_log.log_ends import LogEnds
from runfold_log.writer import LogWriter
from runfold_projections.postgres.connection import Pool, open_pool
from runfold_schemas.ids import Ids
from runfold_server.caches.history_cache import Histories
from runfold_server.caches.run_cache import ExperimentCache, RunCache
from runfold_server.caches.run_search_cache import RunSearches
from runfold_server.caches.snapshots import Snapshots
from runfold_server.core.config import ServerConfig
from runfold_server.core.database import Database
from runfold_server.core.metrics import ServerMetrics
from runfold_server.freshness.end_offsets import FOLDED, EndOffsets
from runfold_server.freshness.fold_progress import FoldProgress, listen
from runfold_server.freshness.read_hints import ReadHintSender
from runfold_server.http.services import (
    ArtifactServices,
    CacheServices,
    ReadServices,
    Services,
    StreamServices,
)
from runfold_server.integrity.scrub import Scrub
from runfold_server.integrity.verified_reads import Checks
from runfold_server.mlflow.answers.runs import encode_run_bytes
from runfold_server.reads.exports import Exports
from runfold_server.reads.moments import Moments
from runfold_server.reads.reader import Reader
from runfold_server.security.callers import Callers
from runfold_server.security.guard import Guard
from runfold_server.security.timeouts import BoundedProtocol
from runfold_server.streams.events.feed import event_feeds
from runfold_server.streams.events.schema_definitions import Definitions
from runfold_server.streams.series.feed import series_feed
from runfold_server.writes.writes import Writes
from runfold_storage.bucket import Bucket
from runfold_storage.objects import Store

from .routing import not_found, routes

_PATTERN_CONNECTIONS = 2
"""Connections for reads that match patterns against all keys of runs, which may take long."""


def _pool(config: ServerConfig, application: str, most: int) -> AbstractAsyncContextManager[Pool]:
    # With min_size 0 the pool opens before Postgres answers.
    return open_pool(
        config.dsn,
        config.namespace,
        application=application,
        min_size=0,
        max_size=most,
        timeout=config.postgres_timeout,
    )


@asynccontextmanager
async def open_services(config: ServerConfig) -> AsyncIterator[Services]:
    """Yield the services of one process.

    They open without Kafka, Postgres and S3: routes that need them answer 503 meanwhile.
    """
    ids, metrics, progress = Ids(), ServerMetrics(), FoldProgress()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(_pool(config, "runfold-server", config.pool_size))
        log = await stack.enter_async_context(
            LogWriter(config.kafka, config.namespace, timeout=config.kafka_timeout, node=socket.gethostname(), ids=ids)
        )
        database = Database(pool, acquire_timeout=config.acquire_timeout)
        log_ends = LogEnds(config.kafka, log.connect, FOLDED, timeout=config.ends_timeout)
        stack.push_async_callback(log_ends.close)
        ends = EndOffsets(log_ends)
        hints = ReadHintSender(database, config.namespace)
        reader = Reader(database, ends, progress, metrics, hints, wait=config.read_wait)
        few = await stack.enter_async_context(_pool(config, "runfold-server-patterns", _PATTERN_CONNECTIONS))
        patient = Database(few, acquire_timeout=config.acquire_timeout)
        bucket = await stack.enter_async_context(Bucket(config.s3, timeout=config.s3_timeout))
        store = Store(bucket, config.namespace, ids)
        checks = Checks(store, database, metrics)
        scrub = Scrub(store, checks, database, metrics, ids.event_id(), config.artifact_check_period)
        snapshots = Snapshots(config, database, encode_run_bytes)
        stack.push_async_callback(snapshots.close)
        async with asyncio.TaskGroup() as background:
            tasks = [
                background.create_task(hints.serve()),
                background.create_task(scrub.serve()),
                background.create_task(listen(progress, config.dsn, config.namespace)),
            ]
            try:
                yield Services(
                    config=config,
                    metrics=metrics,
                    ids=ids,
                    log=log,
                    writes=Writes(log, reader, metrics),
                    reads=ReadServices(
                        database=database,
                        reader=reader,
                        pattern_reader=Reader(patient, ends, progress, metrics, hints, wait=config.read_wait),
                        moments=Moments(ends, vector_named=snapshots.vector_named),
                        snapshots=snapshots,
                        log_ends=ends,
                        exports=Exports(),
                    ),
                    caches=CacheServices(
                        runs=RunCache(database, reader, progress, log),
                        experiments=ExperimentCache(database, reader, progress),
                        histories=Histories(),
                        searches=RunSearches(reader, encode_run_bytes, config.search_bytes),
                    ),
                    streams=StreamServices(
                        series=series_feed(config.kafka, reader),
                        events=event_feeds(config.kafka, reader, timeout=config.kafka_timeout),
                        definitions=Definitions(config.kafka, log.connect, timeout=config.kafka_timeout),
                    ),
                    artifacts=ArtifactServices(store=store, checks=checks),
                )
            finally:
                for task in tasks:
                    task.cancel()


def create_app(config: ServerConfig) -> Starlette:
    """Return the ASGI application."""
    opened: list[Services] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        _end_with_parent()
        async with open_services(config) as services:
            opened.append(services)
            _end_streams_at_signals(services.streams.series.stop, services.streams.events.stop)
            _collect_quickly()
            try:
                yield
            finally:
                opened.clear()

    return Starlette(
        routes=routes(lambda: opened[0]),
        lifespan=lifespan,
        exception_handlers={404: not_found},
        middleware=[
            # Also without a proxy to trust: then it trusts nobody.
            Middleware(ProxyHeadersMiddleware, list(config.trusted_proxies)),
            Middleware(Guard, Callers(config.allowed_hosts, config.allowed_origins)),
        ],
    )


def _end_streams_at_signals(*stops: Callable[[], None]) -> None:
    """End streams at a signal.

    A server that stops finishes its requests first, and a stream would keep it until its timeout.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def wrapped(before: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
        def handle(number: int, frame: FrameType | None) -> Any:
            for stop in stops:
                loop.call_soon_threadsafe(stop)
            return before(number, frame)

        return handle

    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):
            signal.signal(number, wrapped(before))


def _collect_quickly() -> None:
    """What is there at the start stays.

    Looked through by a collection that a large request set off, it held up all others for 80 ms.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def _end_with_parent() -> None:
    """Stop this worker process when its parent has died, however it died: else it would hold the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket whose accepted connections have TCP_NODELAY. OSError if the address is in use.

    Linux passes the option on from the listener, whatever the event loop does. Without it every keep-alive request
    waits 40 ms for a delayed ACK.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener


def serve(config: ServerConfig, listener: socket.socket | None = None) -> None:
    """Serve until SIGTERM or SIGINT, finish the requests in flight, and return. OSError if the address is in use."""
    bound = listener or listening_socket(config.host, config.port)
    settings = uvicorn.Config(
        functools.partial(create_app, config),
        factory=True,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        workers=config.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # uvicorn's default trusts any process on this machine
        timeout_graceful_shutdown=int(config.graceful_shutdown),
        timeout_keep_alive=75,
    )
    with bound, _signals_end_it():
        if config.workers > 1:
            Multiprocess(settings, sockets=[bound]).run()
        else:
            uvicorn.Server(settings).run([bound])


@contextmanager
def _signals_end_it() -> Iterator[None]:
    # uvicorn raises its signals again after its shutdown; a clean stop must not look like a kill.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
