"""Connections: pools whose `search_path` names the schema that unqualified table names mean."""

import json
import re
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources import files
from typing import Any, Protocol

import asyncpg

from runfold_schemas.positions.topics import check_namespace


class Queryable(Protocol):
    """Runs statements: a connection, or a pool that lends one for each statement. Rows are `asyncpg.Record`."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement and return its status, such as `DELETE 3`."""

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Run a statement once per row of arguments."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Return all rows."""

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """Return the first row; None without one."""

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return a value of the first row; None without one."""


class Cursor(Protocol):
    """Reads a query's rows a few at a time: `async for` over all of them, or awaited for `fetch`."""

    def __aiter__(self) -> AsyncIterator[Any]: ...

    def __await__(self) -> Generator[Any, None, Any]: ...


class Transaction(AbstractAsyncContextManager[Any, bool | None], Protocol):
    """A transaction: an `async with` block, or `start` and an end."""

    async def start(self) -> None:
        """Begin."""

    async def commit(self) -> None:
        """Keep what was changed."""

    async def rollback(self) -> None:
        """Undo what was changed."""


class Connection(Queryable, Protocol):
    """What this program uses of an asyncpg connection, in or out of a pool: asyncpg's two classes share no base."""

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        """Open a transaction for an `async with` block; a nested one is a savepoint."""

    def cursor(self, query: str, *args: Any, prefetch: int | None = None, timeout: float | None = None) -> Cursor:
        """Open a cursor. Needs a transaction."""

    async def copy_from_query(
        self, query: str, *args: Any, output: Any, format: Any = None, timeout: float | None = None
    ) -> str:
        """Stream a query's rows in COPY format to `output`."""

    async def add_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """LISTEN to a channel; `callback` gets the connection, the sender's process id, the channel and the payload."""

    def add_termination_listener(self, callback: Callable[..., Any]) -> None:
        """Call `callback` with the connection when its session ends."""

    async def set_type_codec(
        self, typename: str, *, schema: str, encoder: Callable[[Any], Any], decoder: Callable[[Any], Any]
    ) -> None:
        """Encode and decode a Postgres type in Python."""

    async def close(self, *, timeout: float | None = None) -> None:
        """End the session, waiting for the server."""

    def terminate(self) -> None:
        """End the session at once."""

    def is_closed(self) -> bool:
        """Report whether the session has ended."""


class Pool(Queryable, Protocol):
    """What this program uses of an asyncpg pool."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """Borrow a connection. TimeoutError if none is free in time."""


LONG_READ_SECONDS = 24 * 3600.0
"""Timeout of statements that read a whole table: only its size bounds them."""

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")


def identifier(name: str) -> str:
    """Quote a name for SQL. ValueError unless this program makes such names."""
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} is not a schema name of ours")
    return f'"{name}"'


def generation_schema(namespace: str, projection: str, number: int) -> str:
    """Return the Postgres schema of a generation, such as `runfold_runs_1`."""
    return f"{check_namespace(namespace)}_{projection}_{number}"


def sql(path: str) -> str:
    """Read a statement file of this package, such as `tables/runs.sql`."""
    return files("runfold_projections").joinpath("sql", path).read_text()


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def _no_reset(connection: Connection) -> None:
    """Skip asyncpg's reset round trip: pooled connections never set session state, listen or lock."""


@asynccontextmanager
async def open_pool(
    dsn: str,
    search_path: str,
    *,
    application: str,
    min_size: int = 1,
    max_size: int = 8,
    durable: bool = False,
    timeout: float = 10.0,
) -> AsyncIterator[Pool]:
    """Open a pool whose connections see `search_path`.

    `durable=False` commits with `synchronous_commit = off`, which is safe for all that the log can rebuild. `timeout`
    in seconds bounds a statement and a connection attempt.
    """
    settings: dict[str, str] = {"search_path": identifier(search_path), "application_name": application, "jit": "off"}
    if not durable:
        settings["synchronous_commit"] = "off"
    pool: Any = asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        init=_prepare,
        reset=_no_reset,
        command_timeout=timeout,
        timeout=timeout,
        server_settings=settings,
    )
    async with pool:
        yield pool


@asynccontextmanager
async def open_connection(
    dsn: str, search_path: str, *, application: str, durable: bool = False, timeout: float = 10.0
) -> AsyncIterator[Connection]:
    """Open a connection outside of pools: for LISTEN, session locks, migrations, and workers."""
    settings = {"search_path": identifier(search_path), "application_name": application, "jit": "off"}
    if not durable:
        settings["synchronous_commit"] = "off"
    connection = await asyncpg.connect(dsn, timeout=timeout, command_timeout=timeout, server_settings=settings)
    try:
        await _prepare(connection)
        yield connection
    finally:
        # close() would wait for the server; when that is gone or the task is cancelled, terminate() is what is left.
        try:
            await connection.close(timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            connection.terminate()
