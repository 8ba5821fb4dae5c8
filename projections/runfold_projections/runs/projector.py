"""Runs into their tables."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import astuple

from runfold_projections.core.projector import MOST_CACHED, Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.runs import DatasetInput, RunFact
from runfold_schemas.positions.position import Partition

from .fold import Head, RunChange, RunState, evolve, fold
from .state import encode_run


class RunsProjector(Projector):
    """Projector of the runs in one partition. A run that was looked up and not found is remembered as absent."""

    def __init__(self, where: Partition) -> None:
        self._partition = where.partition
        self.forget()

    def forget(self) -> None:
        self._runs: dict[str, RunState | None] = {}
        self._clear_changes()

    def _clear_changes(self) -> None:
        self._heads: dict[str, Head] = {}
        self._params: list[tuple[str, str, str]] = []
        self._tags: dict[tuple[str, str], str | None] = {}
        self._datasets: list[tuple[Any, ...]] = []
        self._models: list[tuple[str, int, str]] = []
        self._outputs: list[tuple[str, int, str, int]] = []

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        wanted = {r.event.run_id for r in records if isinstance(r.event, RunFact)}
        missing = sorted(wanted - self._runs.keys())
        if not missing:
            return
        if len(self._runs) > MOST_CACHED:
            self.forget()
            missing = sorted(wanted)
        self._runs.update(dict.fromkeys(missing))
        rows = await connection.fetch(
            """
            SELECT run_id, experiment_id, name, user_id, status, start_ms, end_ms, lifecycle_stage, deleted_ms,
                artifact_uri,
                   created_by::text
            FROM run WHERE run_id = ANY ($1::text[])
            """,
            missing,
        )
        if not rows:
            return
        found = [row["run_id"] for row in rows]
        self._runs.update({row["run_id"]: RunState(Head(**dict(row))) for row in rows})
        for table, attribute in (("run_param", "params"), ("run_tag", "tags")):
            for row in await connection.fetch(_SELECT_PAIRS[table], found):
                getattr(self._runs[row["run_id"]], attribute)[row["key"]] = row["value"]
        await self._load_inputs(connection, found)

    async def _load_inputs(self, connection: Connection, run_ids: list[str]) -> None:
        for row in await connection.fetch(
            """
            SELECT run_id, name, digest, source_type, source, schema, profile, tags
            FROM run_dataset WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal
            """,
            run_ids,
        ):
            run = self._runs[row["run_id"]]
            assert run is not None
            run.datasets.append(DatasetInput(**{k: v for k, v in row.items() if k != "run_id"}))
        for row in await connection.fetch(
            "SELECT run_id, model_id FROM run_model WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal", run_ids
        ):
            run = self._runs[row["run_id"]]
            assert run is not None
            run.models.append(row["model_id"])
        for row in await connection.fetch(
            "SELECT run_id, model_id, step FROM run_output WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal",
            run_ids,
        ):
            run = self._runs[row["run_id"]]
            assert run is not None
            run.outputs.append((row["model_id"], row["step"]))

    def fold(self, record: Record) -> Rejection | None:
        run_id = record.entity
        state = self._runs[run_id]
        answer = fold(state, record)
        if isinstance(answer, Rejection):
            return answer
        if state is not None or answer.head is not None:
            self._record(run_id, state, answer)
            self._runs[run_id] = evolve(state, answer)
        return None

    def _record(self, run_id: str, state: RunState | None, change: RunChange) -> None:
        if change.head is not None:
            self._heads[run_id] = change.head
        if change.params:
            self._params += [(run_id, key, value) for key, value in change.params.items()]
        for key, value in change.tags.items():
            self._tags[run_id, key] = value
        if change.datasets:
            self._note_datasets(run_id, len(state.datasets) if state else 0, change.datasets)
        if change.models:
            first = len(state.models) if state else 0
            self._models += [(run_id, ordinal, model) for ordinal, model in enumerate(change.models, first)]
        if change.outputs:
            first = len(state.outputs) if state else 0
            self._outputs += [(run_id, ordinal, *output) for ordinal, output in enumerate(change.outputs, first)]

    def _note_datasets(self, run_id: str, first: int, datasets: Sequence[DatasetInput]) -> None:
        for ordinal, d in enumerate(datasets, first):
            self._datasets.append(
                (run_id, ordinal, d.name, d.digest, d.source_type, d.source, d.definition, d.profile, d.tags)
            )

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        return (record.entity,)

    def state(self, entity: str) -> bytes | None:
        run = self._runs.get(entity)
        return None if run is None else encode_run(run)

    def changes(self) -> list[RowChange]:
        found = []
        if self._heads:
            heads = columns([astuple(head) for head in self._heads.values()])
            found.append(RowChange(_SAVE_HEADS, (self._partition, *heads)))
        if self._params:
            found.append(RowChange(_SAVE_PARAMS, columns(self._params)))
        gone = [key for key, value in self._tags.items() if value is None]
        if gone:
            found.append(RowChange(_DELETE_TAGS, columns(gone)))
        kept = [(*key, value) for key, value in self._tags.items() if value is not None]
        if kept:
            found.append(RowChange(_SAVE_TAGS, columns(kept)))
        if self._datasets:
            found.append(RowChange(_SAVE_DATASETS, columns(self._datasets)))
        if self._models:
            found.append(RowChange(_SAVE_MODELS, columns(self._models)))
        if self._outputs:
            found.append(RowChange(_SAVE_OUTPUTS, columns(self._outputs)))
        self._clear_changes()
        return found


_SAVE_HEADS = """
INSERT INTO run (partition, run_id, experiment_id, name, user_id, status, start_ms, end_ms, lifecycle_stage, deleted_ms,
                 artifact_uri, created_by)
SELECT $1::integer, head.* FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[],
    $8::bigint[],
                                       $9::text[], $10::bigint[], $11::text[], $12::uuid[]) AS head
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (run_id) DO UPDATE SET
    name = excluded.name, status = excluded.status, end_ms = excluded.end_ms,
    lifecycle_stage = excluded.lifecycle_stage, deleted_ms = excluded.deleted_ms
"""
_SAVE_PARAMS = """
INSERT INTO run_param (run_id, key, value)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_TAGS = """
INSERT INTO run_tag (run_id, key, value)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value
"""
_DELETE_TAGS = """
DELETE FROM run_tag t USING unnest($1::text[], $2::text[]) AS gone (run_id, key)
WHERE t.run_id = gone.run_id AND t.key = gone.key AND EXISTS (SELECT FROM fence)
"""
_SAVE_DATASETS = """
INSERT INTO run_dataset (run_id, ordinal, name, digest, source_type, source, schema, profile, tags)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::jsonb[])
WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_MODELS = """
INSERT INTO run_model (run_id, ordinal, model_id)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_OUTPUTS = """
INSERT INTO run_output (run_id, ordinal, model_id, step)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[]) WHERE EXISTS (SELECT FROM fence)
"""
_SELECT_PAIRS = {
    "run_param": "SELECT run_id, key, value FROM run_param WHERE run_id = ANY ($1::text[])",
    "run_tag": "SELECT run_id, key, value FROM run_tag WHERE run_id = ANY ($1::text[])",
}
