"""Searches about the past: answered from a snapshot, read models folded up to exactly the moment of the question.

A handler gets the services of the server with the snapshot's tables in place of the live ones, and answers as it does
about the present.
"""

import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from runfold_projections.generations.snapshots import folded_part, snapshot_at, snapshot_schema, snapshot_vector
from runfold_projections.postgres.connection import Connection, open_pool
from runfold_projections.postgres.read_transaction import checkpoints
from runfold_schemas.bounded_cache import BoundedCache
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.vector import Vector
from runfold_server.core.config import ServerConfig
from runfold_server.core.database import Database
from runfold_server.core.errors import NoSuchSnapshot, Unavailable
from runfold_server.reads import moments
from runfold_server.reads.reader import Consistency, Query, Reader, ReadResult
from runfold_server.reads.scopes import PartitionOffsets, Scope

from .run_search_cache import EncodeRun, RunSearches

MAX_OPEN = 4
"""Snapshots whose connections and columns are kept; the least recently used one is closed first."""
_MEMORY_SHARE = 8
"""A snapshot may use this fraction of the memory of searches about the present."""
_POOL_SIZE = 3
_RETRY_AFTER_SECONDS = 2.0
_NAME = re.compile(r"[a-z0-9_]{1,17}")
T = TypeVar("T")


class SnapshotReader(Reader):
    """Reads from the tables of a snapshot, which nothing changes any more: every read is the same."""

    def __init__(self, database: Database, vector: Vector) -> None:
        self._snapshot, self._vector = database, vector

    async def read(
        self,
        scope: Scope,
        query: Query[T],
        also: Callable[[T], Scope] | None = None,
        *,
        as_of: Vector | None = None,
        consistency: Consistency = Consistency.STRONG,
    ) -> ReadResult[T]:
        return await self._read(query)

    async def read_after(
        self, ends: PartitionOffsets, query: Query[T], also: Callable[[T], PartitionOffsets] | None = None
    ) -> ReadResult[T]:
        return await self._read(query)

    async def _read(self, query: Query[T]) -> ReadResult[T]:
        """Run the query. Unavailable while the snapshot is not folded up to its vector."""
        async with self._snapshot.read_transaction() as connection:
            have = await checkpoints(connection)
            if have != self._vector:
                raise Unavailable(_unfinished(have, self._vector), _RETRY_AFTER_SECONDS)
            return ReadResult(await query(connection), self._vector)


def _unfinished(have: Vector, vector: Vector) -> str:
    if any(end > vector.get(where, 0) for where, end in have.items()):
        return "The past was folded beyond its moment by workers of an older release: drop it and create it again."
    folded, total = sum(have.values()), sum(vector.values())
    return f"The past of this moment is not ready yet: {folded:,} of {total:,} records are folded. Is a worker running?"


@dataclass(slots=True)
class OpenSnapshot:
    """A snapshot in use: what takes the place of the server's own services. One that is evicted closes after its last
    user.
    """

    vector: Vector
    database: Database
    reader: SnapshotReader
    searches: RunSearches
    exits: AsyncExitStack
    users: int = 0
    is_evicted: bool = field(default=False)


class Snapshots:
    """The snapshots that this server reads from, opened on first use."""

    def __init__(self, config: ServerConfig, database: Database, encode: EncodeRun) -> None:
        self._config, self._database, self._encode = config, database, encode
        self._open: BoundedCache[tuple[str, tuple[tuple[Partition, int], ...]], OpenSnapshot] = BoundedCache(MAX_OPEN)

    async def close(self) -> None:
        """Close all connections."""
        for snapshot in self._open.clear():
            await snapshot.exits.aclose()

    @asynccontextmanager
    async def open_for(self, resolver: moments.Moments, request: Request) -> AsyncIterator[OpenSnapshot]:
        """The snapshot of the moment that a request names. The message of NoSuchSnapshot has the command that creates
        it.
        """
        name, vector = await self._find(resolver, moments.requested_moment(request))
        snapshot = await self._opened(name, vector)
        snapshot.users += 1
        try:
            yield snapshot
        finally:
            snapshot.users -= 1
            if snapshot.is_evicted and not snapshot.users:
                await snapshot.exits.aclose()

    async def vector_named(self, name: str) -> Vector | None:
        """The vector of the snapshot of this name; None if there is none."""
        return await self._run(lambda connection: snapshot_vector(connection, name))

    async def _find(self, resolver: moments.Moments, text: str) -> tuple[str, Vector]:
        if _NAME.fullmatch(text):
            vector = await self.vector_named(text)
            if vector is not None:
                return text, vector
        resolved = folded_part(await resolver.resolve(text))
        name = await self._run(lambda connection: snapshot_at(connection, resolved))
        if name is None:
            option = "--vector" if text[:1].isalpha() else "--at"
            raise NoSuchSnapshot(
                f"Searches about the past need read models of it, and there are none of '{text}' "
                f"({moments.vector_text(resolved)}). Create them with `runfold snapshot create {option} "
                f"{shlex.quote(text)}`; "
                "`runfold snapshot list` shows those that there are."
            )
        return name, resolved

    async def _run(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._database.connection() as connection:
            return await query(connection)

    async def _opened(self, name: str, vector: Vector) -> OpenSnapshot:
        key = (name, tuple(sorted(vector.items())))
        found = self._open.get(key)
        if found is not None:
            return found
        opened = await self._open_new(name, vector)
        # Another request may have opened it meanwhile.
        found = self._open.get(key)
        if found is not None:
            await opened.exits.aclose()
            return found
        for oldest in self._open.put(key, opened, 1):
            oldest.is_evicted = True
            if not oldest.users:
                await oldest.exits.aclose()
        return opened

    async def _open_new(self, name: str, vector: Vector) -> OpenSnapshot:
        config = self._config
        exits = AsyncExitStack()
        pool = await exits.enter_async_context(
            open_pool(
                config.dsn,
                snapshot_schema(config.namespace, name),
                application="runfold-server-past",
                min_size=0,
                max_size=_POOL_SIZE,
                timeout=config.postgres_timeout,
            )
        )
        database = Database(pool, acquire_timeout=config.acquire_timeout)
        reader = SnapshotReader(database, vector)
        searches = RunSearches(reader, self._encode, config.search_bytes // _MEMORY_SHARE)
        return OpenSnapshot(vector, database, reader, searches, exits)
