"""A Postgres for integration tests: the embedded one, started once per test session, with a namespace for each test.

Import the fixtures: `from postgres import namespace, postgres_dsn`.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from runfold_projections.migrate import migrate
from runfold_stack.embedded import embedded_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_numbers = itertools.count(1)


class Namespace(NamedTuple):
    """An installation's schemas, migrated: `name` is also the control schema, whose views take inserts."""

    dsn: str
    name: str


@pytest.fixture(scope="session")
def postgres_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A DSN of a running server. It lives in a thread with an event loop of its own, since tests have a loop each."""
    started: list[str | BaseException] = []
    ready, done = threading.Event(), threading.Event()

    async def serve(directory: Path) -> None:
        async with embedded_stack(directory, kafka=False) as stack:
            assert stack.endpoints.postgres is not None
            started.append(stack.endpoints.postgres)
            ready.set()
            await asyncio.to_thread(done.wait)

    def run() -> None:
        try:
            asyncio.run(serve(tmp_path_factory.mktemp("postgres")))
        except BaseException as error:
            started.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="postgres for tests")
    thread.start()
    ready.wait()
    try:
        if not isinstance(started[0], str):
            raise RuntimeError("the embedded Postgres did not start") from started[0]
        yield started[0]
    finally:
        done.set()
        thread.join()


@pytest.fixture
async def namespace(postgres_dsn: str) -> Namespace:
    """A new installation, with an empty live generation of each projection."""
    name = f"test{next(_numbers)}"
    await migrate(postgres_dsn, name)
    return Namespace(postgres_dsn, name)
