"""Experiments into their tables."""

from collections.abc import Sequence

from runfold_projections.core.projector import MOST_CACHED, Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.experiments import ExperimentCreated, ExperimentFact, ExperimentRenamed
from runfold_schemas.events.system import Genesis

from .fold import DEFAULT_EXPERIMENT_NAME, Experiments, ExperimentState, fold
from .state import encode_experiment


class ExperimentsProjector(Projector):
    """Projector of the `experiments` topic. A name that was looked up and not found is remembered as free."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._state = Experiments(next_id=-1)
        self._known_ids: set[int] = set()
        self._known_names: set[tuple[str, str]] = set()
        self._changed: dict[int, ExperimentState] = {}
        self._last: ExperimentState | None = None
        self._named: list[tuple[str, str, int, int]] = []

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        if len(self._known_ids) + len(self._known_names) > MOST_CACHED:
            self.forget()
        if self._state.next_id < 0:
            self._state.next_id = await connection.fetchval(
                "SELECT coalesce(max(experiment_id), -1) + 1 FROM experiment"
            )
        ids, names = _touched(records)
        ids -= self._known_ids
        names -= self._known_names
        if ids or names:
            await self._load(connection, sorted(ids), sorted(names))

    async def _load(self, connection: Connection, ids: list[int], names: list[tuple[str, str]]) -> None:
        rows = await connection.fetch(
            """
            SELECT e.experiment_id, e.workspace, e.name, e.artifact_location, e.lifecycle_stage, e.created_ms,
                e.updated_ms,
                   e.created_by,
                   (SELECT coalesce(jsonb_object_agg(t.key, t.value), '{}'::jsonb)
                    FROM experiment_tag t WHERE t.experiment_id = e.experiment_id) AS tags
            FROM experiment e
            WHERE e.experiment_id = ANY ($1::bigint[])
               OR (e.workspace, e.name) IN (SELECT * FROM unnest($2::text[], $3::text[]))
            """,
            ids,
            [workspace for workspace, _ in names],
            [name for _, name in names],
        )
        for row in rows:
            # Memory is newer than the tables only within a batch, and a batch is loaded before it is folded.
            if row["experiment_id"] not in self._state.by_id:
                self._state.put(ExperimentState(**{**dict(row), "created_by": str(row["created_by"])}))
        self._known_ids.update(ids)
        self._known_names.update(names)

    def fold(self, record: Record) -> Rejection | None:
        answer = fold(self._state, record)
        self._last = None if isinstance(answer, Rejection) else answer
        if isinstance(answer, Rejection):
            return answer
        before = self._state.by_id.get(answer.experiment_id)
        if before is None or before.name != answer.name:
            self._named.append((answer.workspace, answer.name, record.position.offset, answer.experiment_id))
        self._state.put(answer)
        self._known_ids.add(answer.experiment_id)
        self._known_names.add((answer.workspace, answer.name))
        self._changed[answer.experiment_id] = answer
        return None

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        if self._last is not None:
            return (str(self._last.experiment_id),)
        event, found = record.event, []
        if isinstance(event, ExperimentFact):
            found.append(event.experiment_id)
        if isinstance(event, ExperimentCreated | ExperimentRenamed):
            taken_by = self._state.by_name.get((record.envelope.workspace, event.name))
            if taken_by is not None and taken_by not in found:
                found.append(taken_by)
        return [str(number) for number in found]

    def state(self, entity: str) -> bytes | None:
        experiment = self._state.by_id.get(int(entity))
        return None if experiment is None else encode_experiment(experiment)

    def changes(self) -> list[RowChange]:
        changed, self._changed = list(self._changed.values()), {}
        if not changed:
            return []
        heads = [
            (
                e.experiment_id,
                e.workspace,
                e.name,
                e.artifact_location,
                e.lifecycle_stage,
                e.created_ms,
                e.updated_ms,
                e.created_by,
            )
            for e in changed
        ]
        tags = [(e.experiment_id, key, value) for e in changed for key, value in sorted(e.tags.items())]
        found = [RowChange(_SAVE, columns(heads))]
        if self._named:
            found.append(RowChange(_SAVE_NAMES, columns(self._named)))
            self._named = []
        kept = columns(tags) if tags else ([], [], [])
        found.append(RowChange(_DELETE_TAGS, ([e.experiment_id for e in changed], kept[0], kept[1])))
        if tags:
            found.append(RowChange(_SAVE_TAGS, kept))
        return found


_SAVE = """
INSERT INTO experiment (experiment_id, workspace, name, artifact_location, lifecycle_stage, created_ms, updated_ms,
    created_by)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::uuid[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (experiment_id) DO UPDATE SET
    name = excluded.name, lifecycle_stage = excluded.lifecycle_stage, updated_ms = excluded.updated_ms
"""
_SAVE_NAMES = """
INSERT INTO experiment_naming (workspace, name, log_offset, experiment_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_TAGS = """
INSERT INTO experiment_tag (experiment_id, key, value)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value
"""
_DELETE_TAGS = """
DELETE FROM experiment_tag t
WHERE t.experiment_id = ANY ($1::bigint[]) AND EXISTS (SELECT FROM fence)
  AND (t.experiment_id, t.key) NOT IN (SELECT * FROM unnest($2::bigint[], $3::text[]))
"""


def _touched(records: Sequence[Record]) -> tuple[set[int], set[tuple[str, str]]]:
    ids: set[int] = set()
    names: set[tuple[str, str]] = set()
    for record in records:
        event, workspace = record.event, record.envelope.workspace
        if isinstance(event, Genesis):
            names.add((DEFAULT_WORKSPACE, DEFAULT_EXPERIMENT_NAME))
        if isinstance(event, ExperimentFact):
            ids.add(event.experiment_id)
        if isinstance(event, (ExperimentCreated, ExperimentRenamed)):
            names.add((workspace, event.name))
    return ids, names
