"""Received sequences of one partition: which events are duplicates."""

from collections.abc import Sequence

from runfold_projections.core.projector import MOST_CACHED
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.sequences import Ranges


class Ledger:
    """Ranges per (entity, writer), loaded on demand and written with the batch that changed them."""

    def __init__(self, where: Partition) -> None:
        self._where = where
        self.forget()

    def forget(self) -> None:
        """Drop everything held in memory."""
        self._ranges: dict[tuple[str, str], Ranges] = {}
        self._dirty: set[tuple[str, str]] = set()

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        """Bring the ranges that these records touch into memory."""
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
                -- Through the index, also by a plan that was made while the table was empty (see registered_models.py).
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
        """Note the record as received; False if it had been before."""
        key = (record.entity, record.envelope.writer.id)
        new = self._ranges[key].add(record.envelope.sequence)
        if new:
            self._dirty.add(key)
        return new

    def changes(self) -> list[RowChange]:
        """The ranges that changed."""
        rows = [(*key, _array(self._ranges[key].bounds)) for key in sorted(self._dirty)]
        self._dirty = set()
        return [RowChange(_SAVE, (self._where.partition, *columns(rows)))] if rows else []


def _array(bounds: Sequence[int]) -> str:
    # As text, since arrays of unequal lengths make no array of arrays.
    return f"{{{','.join(map(str, bounds))}}}"


_SAVE = """
INSERT INTO sequence (partition, entity, writer, bounds)
SELECT $1::integer, entity, writer, bounds::bigint[] FROM unnest($2::text[], $3::text[], $4::text[]) AS new (entity, writer, bounds)
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (entity, writer) DO UPDATE SET bounds = excluded.bounds
"""
