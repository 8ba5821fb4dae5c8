"""Reads that a stream can't go on without: they wait for Postgres and the folds, however long it takes."""

import asyncio

import structlog

from runfold_schemas.positions.position import Partition
from runfold_server.core.errors import Unavailable
from runfold_server.reads.reader import Consistency, Query, Reader, T
from runfold_server.reads.scopes import of_topics

_MAX_PAUSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


async def read_when_folded(reader: Reader, where: Partition, end_offset: int, query: Query[T]) -> T:
    """What the query finds once the partition is folded up to the end offset."""
    while True:
        try:
            return (await reader.read_after({where: end_offset}, query)).value
        except Unavailable as error:
            _log.warning("stream_waits_for_fold", partition=str(where), error=error.message)
            await asyncio.sleep(min(_MAX_PAUSE_SECONDS, error.retry_after))


async def read_when_available(reader: Reader, query: Query[T]) -> T:
    """What the query finds in what is folded by now, once Postgres answers."""
    while True:
        try:
            return (await reader.read(of_topics(), query, consistency=Consistency.EVENTUAL)).value
        except Unavailable as error:
            _log.warning("stream_waits_for_postgres", error=error.message)
            await asyncio.sleep(min(_MAX_PAUSE_SECONDS, error.retry_after))
