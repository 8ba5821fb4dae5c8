"""Connections: pools whose `search_path` names the schema that unqualified table names mean."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, TypeAlias

import asyncpg

from runfold_schemas.positions.topics import check_namespace

Connection: TypeAlias = Any
"""An asyncpg connection, in or out of a pool: asyncpg's two classes share methods, but no type."""
Pool: TypeAlias = Any
"""An asyncpg pool."""

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")


def identifier(name: str) -> str:
    """The name, quoted for SQL; ValueError unless it is one that this program makes."""
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} is not a schema name of ours")
    return f'"{name}"'


def generation_schema(namespace: str, projection: str, number: int) -> str:
    """Postgres schema of one generation, such as `runfold_runs_1`."""
    return f"{check_namespace(namespace)}_{projection}_{number}"


def sql(path: str) -> str:
    """A statement file of this package, such as `tables/runs.sql`."""
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
    """A pool whose connections see `search_path`.

    `durable=False` commits with `synchronous_commit = off`: right for whatever the log can rebuild. `timeout` in seconds
    bounds a statement and a connection attempt.
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
    """One connection outside any pool: for LISTEN, session locks, migrations, and workers."""
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
