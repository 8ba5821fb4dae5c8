"""What the folds decided about records: accepted, rejected, dead-lettered, or a duplicate."""

from collections.abc import Sequence

from runfold_projections.operations.outcomes import RejectedEvent, read_rejections
from runfold_projections.postgres.connection import Connection
from runfold_projections.series.skipped_offsets import repeated_offsets
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.position import Partition
from runfold_server.freshness.end_offsets import FOLDED
from runfold_server.reads.reader import Reader
from runfold_server.streams.patient_reads import read_when_folded

from .event_json import ACCEPTED, DUPLICATE, Entry

_SET_ASIDE = "set_aside"
_NO_EVENT = "00000000-0000-0000-0000-000000000000"
"""An event id that no event has."""


async def set_outcomes(reader: Reader, where: Partition, entries: Sequence[Entry]) -> None:
    """Give these records of a partition, in their order, their outcomes. Returns once the fold has passed them,
    however long that takes.
    """
    if where.topic not in FOLDED or not entries:
        return
    start, end = entries[0].position.offset, entries[-1].position.offset + 1
    events = [(entry.position, _event_id(entry)) for entry in entries]

    async def query(connection: Connection) -> tuple[list[RejectedEvent | None], frozenset[int]]:
        return await read_rejections(connection, events), await repeated_offsets(connection, where, start, end)

    refused, repeats = await read_when_folded(reader, where, end, query)
    for entry, found in zip(entries, refused, strict=True):
        if entry.position.offset in repeats:
            entry.outcome = DUPLICATE
        elif found is None:
            entry.outcome = ACCEPTED
        else:
            entry.outcome = _SET_ASIDE if found.code == _SET_ASIDE else "rejected"
            entry.refused = found


def _event_id(entry: Entry) -> str:
    return entry.record.envelope.event_id if isinstance(entry.record, Record) else _NO_EVENT
