"""Artifacts into their table."""

from collections.abc import Sequence

from runfold_projections.core.projector import Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored

from .fold import Artifacts


class ArtifactsProjector(Projector):
    """Projector of the files in one partition of `runs`. Needs no state: the last event about a path counts."""

    def __init__(self) -> None:
        self._artifacts = Artifacts()

    def forget(self) -> None:
        self._artifacts = Artifacts()

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        """Load nothing."""

    def fold(self, record: Record) -> Rejection | None:
        assert isinstance(record.event, (ArtifactStored, ArtifactsDeleted)), record.event
        self._artifacts.fold(record.event, record.envelope.time_ms)
        return None

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        return (record.entity,)

    def state(self, entity: str) -> bytes | None:
        return None

    def changes(self) -> list[RowChange]:
        stored, deleted = self._artifacts.stored, self._artifacts.deleted
        self._artifacts = Artifacts()
        found = []
        if deleted:
            kept = columns(list(stored)) if stored else ([], [])
            found.append(RowChange(_DELETE, (*columns(deleted), *kept)))
        if stored:
            found.append(RowChange(_SAVE, columns([(*place, *file) for place, file in stored.items()])))
        return found


# What was stored again after the deletion is written by the other change: no two may touch one row.
_DELETE = """
DELETE FROM artifact a USING unnest($1::text[], $2::text[]) AS gone (owner, path)
WHERE a.owner = gone.owner AND (gone.path = '' OR a.path = gone.path OR starts_with(a.path, gone.path || '/'))
  AND (a.owner, a.path) NOT IN (SELECT * FROM unnest($3::text[], $4::text[]))
  AND EXISTS (SELECT FROM fence)
"""
_SAVE = """
INSERT INTO artifact (owner, path, size, sha256, object_key, stored_ms)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (owner, path) DO UPDATE SET
    size = excluded.size, sha256 = excluded.sha256, object_key = excluded.object_key, stored_ms = excluded.stored_ms
"""
