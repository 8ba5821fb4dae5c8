"""The read models as the server reaches them: one pool that opens when it can, outages as errors that callers understand."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from runfold_projections.postgres import read_transaction as snapshots
from runfold_projections.postgres.connection import Connection, Pool
from runfold_schemas.positions.position import Partition

from .outages import postgres_outages


class Database:
    """Connections for reads. Raises Unavailable where Postgres is away, InvalidParameter where a query is the caller's fault."""

    def __init__(self, pool: Pool, *, acquire_timeout: float) -> None:
        self._pool = pool
        self._timeout = acquire_timeout

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection in a read-only snapshot."""
        with postgres_outages():
            async with snapshots.snapshot(self._pool, self._timeout) as connection:
                yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for one statement, which is a snapshot of its own."""
        with postgres_outages():
            async with self._pool.acquire(timeout=self._timeout) as connection:
                yield connection

    async def checkpoints(self) -> Mapping[Partition, int]:
        """Checkpoints as of now."""
        async with self.connection() as connection:
            return await snapshots.checkpoints(connection)
