"""Access to the read models: one pool that opens when it can, with outages as errors of the API."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from runfold_projections.postgres import read_transaction as snapshots
from runfold_projections.postgres.connection import Connection, Pool
from runfold_schemas.positions.position import Partition

from .outages import postgres_outages


class Database:
    """Connections for reads.

    They raise Unavailable while Postgres is down, InvalidParameter where the client's query is bad.
    """

    def __init__(self, pool: Pool, *, acquire_timeout: float) -> None:
        self._pool = pool
        self._timeout = acquire_timeout

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Connection]:
        """Yield a connection in a read-only transaction, which sees one moment."""
        with postgres_outages():
            async with snapshots.read_transaction(self._pool, self._timeout) as connection:
                yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Yield a connection for one statement, which sees one moment by itself."""
        with postgres_outages():
            async with self._pool.acquire(timeout=self._timeout) as connection:
                yield connection

    async def checkpoints(self) -> Mapping[Partition, int]:
        """Return the current checkpoint of each partition."""
        async with self.connection() as connection:
            return await snapshots.checkpoints(connection)
