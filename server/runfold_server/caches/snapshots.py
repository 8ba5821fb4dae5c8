"""Searches about the past: answered from a past, read models folded up to exactly the moment that is asked about.

A handler is given the parts of the server with the past's tables in the place of the live ones, and answers as it does about the present.
"""

import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from runfold_projections.generations.snapshots import folded_part, past_named, past_of, past_schema
from runfold_projections.postgres.connection import Connection, open_pool
from runfold_projections.postgres.read_transaction import checkpoints
from runfold_schemas.bounded_cache import BoundedCache
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.vector import Vector
from runfold_server.core.config import ServerConfig
from runfold_server.core.database import Database
from runfold_server.core.errors import NoSuchSnapshot, Unavailable
from runfold_server.reads import moments as as_of
from runfold_server.reads.reader import Positions, Query, Reader, Scope, Shown

from .run_search_cache import EncodeRun, RunSearches

MOST_OPEN = 4
"""Pasts whose connections and columns are kept, the least used is closed first."""
_MEMORY_SHARE = 8
_POOL = 3
_NAME = re.compile(r"[a-z0-9_]{1,17}")
T = TypeVar("T")


class PastReader(Reader):
    """Reads from the tables of a past, which nothing changes any more."""

    def __init__(self, database: Database, vector: Vector) -> None:
        self._past, self._vector = database, vector

    async def eventual(self, query: Query[T]) -> Shown[T]:
        async with self._past.snapshot() as connection:
            have = await checkpoints(connection)
            if have != self._vector:
                raise Unavailable(_unfinished(have, self._vector), 2.0)
            return Shown(await query(connection), self._vector)

    async def strong(self, scope: Scope, query: Query[T], also: Callable[[T], Scope] | None = None) -> Shown[T]:
        return await self.eventual(query)

    async def at(
        self, want: Mapping[Partition, int], query: Query[T], also: Callable[[T], Positions] | None = None
    ) -> Shown[T]:
        return await self.eventual(query)


def _unfinished(have: Vector, vector: Vector) -> str:
    if any(end > vector.get(where, 0) for where, end in have.items()):
        return "The past was folded beyond its moment by workers of an older release: drop it and create it again."
    folded, total = sum(have.values()), sum(vector.values())
    return f"The past of this moment is not ready yet: {folded:,} of {total:,} records are folded. Is a worker running?"


@dataclass(slots=True)
class Past:
    """A past in use: what takes the place of the server's own parts. What is closed while somebody reads goes on until he has read."""

    vector: Vector
    database: Database
    reader: PastReader
    searches: RunSearches
    exits: AsyncExitStack
    users: int = 0
    gone: bool = field(default=False)


class Pasts:
    """The pasts that this server reads from, opened when they are asked for."""

    def __init__(self, config: ServerConfig, database: Database, encode: EncodeRun) -> None:
        self._config, self._database, self._encode = config, database, encode
        self._open: BoundedCache[tuple[str, tuple[tuple[Partition, int], ...]], Past] = BoundedCache(MOST_OPEN)

    async def close(self) -> None:
        """Close all connections."""
        for past in self._open.clear():
            await past.exits.aclose()

    @asynccontextmanager
    async def asked(self, moments: as_of.Moments, request: Request) -> AsyncIterator[Past]:
        """The past of the moment that a request names. NoSuchSnapshot says how to make it."""
        name, vector = await self._find(moments, as_of.given(request))
        one = await self._opened(name, vector)
        one.users += 1
        try:
            yield one
        finally:
            one.users -= 1
            if one.gone and not one.users:
                await one.exits.aclose()

    async def named(self, name: str) -> Vector | None:
        """The vector of the past of this name; None if there is none."""
        return await self._ask(lambda connection: past_named(connection, name))

    async def _find(self, moments: as_of.Moments, text: str) -> tuple[str, Vector]:
        if _NAME.fullmatch(text):
            vector = await self.named(text)
            if vector is not None:
                return text, vector
        resolved = folded_part(await moments.resolve(text))
        name = await self._ask(lambda connection: past_of(connection, resolved))
        if name is None:
            option = "--vector" if text[:1].isalpha() else "--at"
            raise NoSuchSnapshot(
                f"Searches about the past need read models of it, and there are none of '{text}' ({as_of.said(resolved)}). "
                f"Create them with `runfold past create {option} {shlex.quote(text)}`; `runfold past list` shows those that there are."
            )
        return name, resolved

    async def _ask(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._database.connection() as connection:
            return await query(connection)

    async def _opened(self, name: str, vector: Vector) -> Past:
        key = (name, tuple(sorted(vector.items())))
        found = self._open.get(key)
        if found is None:
            made = await self._new(name, vector)
            # Another request may have opened it meanwhile.
            found = self._open.get(key)
            if found is not None:
                await made.exits.aclose()
                return found
            found = made
            for oldest in self._open.put(key, made, 1):
                oldest.gone = True
                if not oldest.users:
                    await oldest.exits.aclose()
        return found

    async def _new(self, name: str, vector: Vector) -> Past:
        config = self._config
        exits = AsyncExitStack()
        pool = await exits.enter_async_context(
            open_pool(
                config.dsn,
                past_schema(config.namespace, name),
                application="runfold-server-past",
                min_size=0,
                max_size=_POOL,
                timeout=config.postgres_timeout,
            )
        )
        database = Database(pool, acquire_timeout=config.acquire_timeout)
        reader = PastReader(database, vector)
        return Past(
            vector, database, reader, RunSearches(reader, self._encode, config.search_bytes // _MEMORY_SHARE), exits
        )
