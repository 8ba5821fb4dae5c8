"""A consistent view: checkpoints and rows of one moment."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

from .connection import Connection, Pool


@asynccontextmanager
async def read_transaction(pool: Pool, timeout: float = 5.0) -> AsyncIterator[Connection]:
    """A connection inside a read-only REPEATABLE READ transaction. TimeoutError if the pool has none in time."""
    async with (
        pool.acquire(timeout=timeout) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def checkpoints(connection: Connection) -> dict[Partition, int]:
    """Next offset that each partition's live generation will fold; partitions never folded are absent."""
    rows = await connection.fetch("SELECT topic, partition, next_offset FROM checkpoint")
    return {Partition(Topic(row["topic"]), row["partition"]): row["next_offset"] for row in rows}


def has_reached(have: Mapping[Partition, int], want: Mapping[Partition, int]) -> bool:
    """Whether every wanted partition has been folded up to the wanted end (next offset)."""
    return all(have.get(partition, 0) >= end for partition, end in want.items())
