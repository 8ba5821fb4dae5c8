"""What became of records of the log, once the folds have passed them."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import structlog

from runfold_projections.operations.outcomes import Refused, refusals
from runfold_projections.postgres.connection import Connection
from runfold_projections.series.skipped_offsets import repeated
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.position import Partition
from runfold_server.core.errors import Unavailable
from runfold_server.freshness.end_offsets import FOLDED
from runfold_server.reads.reader import Query, Reader

from .event_json import ACCEPTED, DUPLICATE, Entry

_log = structlog.get_logger(__name__)
_SET_ASIDE = "set_aside"
T = TypeVar("T")


class Judge:
    """Says of each record whether the fold took it in."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def judge(self, where: Partition, entries: Sequence[Entry]) -> None:
        """Give these records of a partition, in their order, their outcomes. Returns when the fold has passed them, however long that takes."""
        if where.topic not in FOLDED or not entries:
            return
        start, stop = entries[0].raw.position.offset, entries[-1].raw.position.offset + 1
        asked = [(entry.raw.position, _event_id(entry)) for entry in entries]

        async def query(connection: Connection) -> tuple[list[Refused | None], frozenset[int]]:
            return await refusals(connection, asked), await repeated(connection, where, start, stop)

        refused, repeats = await self._when_folded(where, stop, query)
        for entry, found in zip(entries, refused, strict=True):
            if entry.raw.position.offset in repeats:
                entry.outcome = DUPLICATE
            elif found is None:
                entry.outcome = ACCEPTED
            else:
                entry.outcome = _SET_ASIDE if found.code == _SET_ASIDE else "rejected"
                entry.refused = found

    async def _when_folded(self, where: Partition, stop: int, query: Query[T]) -> T:
        while True:
            try:
                return (await self._reader.at({where: stop}, query)).value
            except Unavailable as error:
                _log.warning("events_wait_for_the_fold", partition=str(where), error=error.message)
                await asyncio.sleep(min(1.0, error.retry_after))


_NOBODY = "00000000-0000-0000-0000-000000000000"


def _event_id(entry: Entry) -> str:
    return entry.record.envelope.event_id if isinstance(entry.record, Record) else _NOBODY
