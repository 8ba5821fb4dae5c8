"""Reads that a stream can't go on without: they wait for the fold, however long it takes."""

import asyncio

import structlog

from runfold_schemas.positions.position import Partition
from runfold_server.core.errors import Unavailable
from runfold_server.reads.reader import Query, Reader, T

_MAX_PAUSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


async def read_when_folded(reader: Reader, where: Partition, end_offset: int, query: Query[T]) -> T:
    """What the query finds once the partition is folded up to the end offset."""
    while True:
        try:
            return (await reader.at({where: end_offset}, query)).value
        except Unavailable as error:
            _log.warning("stream_waits_for_fold", partition=str(where), error=error.message)
            await asyncio.sleep(min(_MAX_PAUSE_SECONDS, error.retry_after))
