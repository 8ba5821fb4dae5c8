"""Sequences received in one partition: they tell duplicates from new events."""

from collections.abc import Sequence

from runfold_projections.core.projector import MOST_CACHED
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.sequences import Ranges


class SequenceTracker:
    """Received ranges per (entity, writer), loaded on demand and written with the batch that changed them."""

    def __init__(self, where: Partition) -> None:
        self._where = where
        self.forget()

    def forget(self) -> None:
        """Drop all state in memory."""
        self._ranges: dict[tuple[str, str], Ranges] = {}
        self._dirty: set[tuple[str, str]] = set()

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        """Load the ranges that these records touch."""
        wanted = {(r.entity, r.envelope.writer.id) for r in records}
        missing = sorted(wanted - self._ranges.keys())
        if not missing:
            return
        if len(self._ranges) > MOST_CACHED:
            self.forget()
            missing = sorted(wanted)
        rows = await connection.fetch(
            """
            SELECT s.entity, s.writer, s.bounds
            FROM unnest($1::text[], $2::text[]) AS wanted (entity, writer) CROSS JOIN LATERAL (
                -- Through the index, even with a plan made while the table was empty (see registry/projector.py).
                SELECT * FROM sequence WHERE entity = wanted.entity AND writer = wanted.writer OFFSET 0
            ) s
            """,
            [entity for entity, _ in missing],
            [writer for _, writer in missing],
        )
        for key in missing:
            self._ranges[key] = Ranges()
        for row in rows:
            self._ranges[row["entity"], row["writer"]] = Ranges(row["bounds"])

    def is_new(self, record: Record) -> bool:
        """Mark the record as received; return False if it was received before."""
        key = (record.entity, record.envelope.writer.id)
        new = self._ranges[key].add(record.envelope.sequence)
        if new:
            self._dirty.add(key)
        return new

    def changes(self) -> list[RowChange]:
        """Return the change that saves the ranges that changed."""
        rows = [(*key, _array(self._ranges[key].bounds)) for key in sorted(self._dirty)]
        self._dirty = set()
        return [RowChange(_SAVE, (self._where.partition, *columns(rows)))] if rows else []


def _array(bounds: Sequence[int]) -> str:
    # As text: Postgres has no arrays of arrays of unequal lengths.
    return f"{{{','.join(map(str, bounds))}}}"


_SAVE = """
INSERT INTO sequence (partition, entity, writer, bounds)
SELECT $1::integer, entity, writer, bounds::bigint[] FROM unnest($2::text[], $3::text[], $4::text[]) AS new (entity,
    writer, bounds)
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (entity, writer) DO UPDATE SET bounds = excluded.bounds
"""
