"""The real services for tests: one Kafka, one Postgres and one S3 store per test session, in a thread with an event
loop of its own.

`RUNFOLD_TEST_KAFKA` (with RUNFOLD_KAFKA_* for its password, if it asks for one), `RUNFOLD_TEST_POSTGRES` and
`RUNFOLD_TEST_S3` (an endpoint, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) name services of yours instead; tests
that kill services then fail loudly.
"""

import asyncio
import functools
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from runfold_log.cluster import KafkaCluster, KafkaSecurity
from runfold_stack.embedded import RunningStack, embedded_stack
from runfold_storage.config import S3Config
from tests.support.installations.stopping import stop_process

T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """Addresses of the services, and the stack to do harm to."""

    kafka: KafkaCluster
    postgres: str
    s3: S3Config | None
    _stack: RunningStack | None
    _loop: asyncio.AbstractEventLoop | None

    @property
    def kafka_variables(self) -> dict[str, str]:
        """How a program is told of Kafka."""
        return {"RUNFOLD_KAFKA": self.kafka.brokers, **self.kafka.security.variables()}

    def kill(self, name: str, signal_number: int) -> None:
        """Send a signal to `kafka`, `postgres` or `s3`; the supervisor brings it back.

        Return from a SIGSTOP once it has stopped.
        """
        if signal_number == signal.SIGSTOP:
            stop_process(self.stack.supervisor.pid(name))
        else:
            self.stack.kill(name, signal_number)

    def wait_ready(self, name: str, timeout: float = 60.0) -> None:
        """Return once the part answers again."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.stack.wait_ready(name), self._loop).result(timeout)

    @property
    def stack(self) -> RunningStack:
        """The embedded stack of this session."""
        assert self._stack is not None, "this test does harm to the services: run it without RUNFOLD_TEST_*"
        return self._stack


@contextmanager
def running_services(directory: Path) -> Iterator[Services]:
    """Services for as long as the block lasts."""
    kafka, postgres = os.environ.get("RUNFOLD_TEST_KAFKA"), os.environ.get("RUNFOLD_TEST_POSTGRES")
    if kafka and postgres:
        s3 = os.environ.get("RUNFOLD_TEST_S3")
        cluster = KafkaCluster(kafka, KafkaSecurity.from_environment())
        yield Services(cluster, postgres, S3Config(s3) if s3 else None, None, None)
        return
    with in_thread(functools.partial(_serve, directory)) as services:
        yield services


async def _serve(directory: Path, ready: Callable[[Services], Coroutine[Any, Any, None]]) -> None:
    async with embedded_stack(directory) as stack:
        kafka, postgres = stack.endpoints.kafka, stack.endpoints.postgres
        assert kafka is not None
        assert postgres is not None
        await ready(Services(kafka, postgres, s3_of(stack), stack, asyncio.get_running_loop()))


def s3_of(stack: RunningStack) -> S3Config | None:
    """The stack's S3 store, as a server is told of it."""
    store = stack.endpoints.s3
    if store is None:
        return None
    return S3Config(store.endpoint, access_key=store.keys.access_key, secret_key=store.keys.secret_key)


@contextmanager
def in_thread(serve: Callable[[Callable[[T], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]]) -> Iterator[T]:
    """Run a coroutine function in a thread of its own until the block ends.

    It is given `ready`, which it awaits with what the block is to get, and which returns when the block has ended.
    """
    made: list[T] = []
    failure: list[BaseException] = []
    started = threading.Event()
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def ready(value: T) -> None:
        stop = asyncio.Event()
        control.append((asyncio.get_running_loop(), stop))
        made.append(value)
        started.set()
        await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve(ready))
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="services for tests")
    thread.start()
    started.wait()
    try:
        if not made:
            raise RuntimeError("the services did not start") from failure[0]
        yield made[0]
    finally:
        if control and thread.is_alive():
            loop, stop = control[0]
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failure:
        raise failure[0]
