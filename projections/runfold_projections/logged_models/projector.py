"""Logged models into their tables."""

from collections.abc import Sequence

from msgspec.structs import astuple

from runfold_projections.core.projector import MOST_CACHED, Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.logged_models import LoggedModelFact

from .fold import LoggedModelHead, LoggedModelState, evolve, fold
from .state import encode_logged_model


class LoggedModelsProjector(Projector):
    """Projector of logged models. A model that was looked up and not found is remembered as absent."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._models: dict[str, LoggedModelState | None] = {}
        self._clear_changes()

    def _clear_changes(self) -> None:
        self._heads: dict[str, LoggedModelHead] = {}
        self._params: list[tuple[str, str, str]] = []
        self._tags: dict[tuple[str, str], str | None] = {}

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        wanted = {r.event.model_id for r in records if isinstance(r.event, LoggedModelFact)}
        missing = sorted(wanted - self._models.keys())
        if not missing:
            return
        if len(self._models) > MOST_CACHED:
            self.forget()
            missing = sorted(wanted)
        self._models.update(dict.fromkeys(missing))
        rows = await connection.fetch(_LOAD, missing)
        found = {row["model_id"]: LoggedModelState(LoggedModelHead(**dict(row))) for row in rows}
        if not found:
            return
        for text, attribute in ((_LOAD_PARAMS, "params"), (_LOAD_TAGS, "tags")):
            for row in await connection.fetch(text, list(found)):
                getattr(found[row["model_id"]], attribute)[row["key"]] = row["value"]
        self._models.update(found)

    def fold(self, record: Record) -> Rejection | None:
        event = record.event
        assert isinstance(event, LoggedModelFact), event
        model_id = event.model_id
        state = self._models[model_id]
        answer = fold(state, record)
        if isinstance(answer, Rejection):
            return answer
        if answer.head is not None:
            self._heads[model_id] = answer.head
        self._params.extend((model_id, key, value) for key, value in answer.params.items())
        self._tags.update({(model_id, key): value for key, value in answer.tags.items()})
        self._models[model_id] = evolve(state, answer)
        return None

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        assert isinstance(record.event, LoggedModelFact), record.event
        return (record.event.model_id,)

    def state(self, entity: str) -> bytes | None:
        model = self._models.get(entity)
        return None if model is None else encode_logged_model(model)

    def changes(self) -> list[RowChange]:
        found = []
        if self._heads:
            found.append(RowChange(_SAVE_HEADS, columns([astuple(head) for head in self._heads.values()])))
        if self._params:
            found.append(RowChange(_SAVE_PARAMS, columns(self._params)))
        gone = [key for key, value in self._tags.items() if value is None]
        if gone:
            found.append(RowChange(_DELETE_TAGS, columns(gone)))
        kept = [(*key, value) for key, value in self._tags.items() if value is not None]
        if kept:
            found.append(RowChange(_SAVE_TAGS, columns(kept)))
        self._clear_changes()
        return found


_LOAD = """
SELECT model_id, workspace, experiment_id, name, artifact_uri, model_type, source_run_id, status, lifecycle_stage,
    created_ms,
       updated_ms, created_by::text
FROM logged_model WHERE model_id = ANY ($1::text[])
"""
_LOAD_PARAMS = "SELECT model_id, key, value FROM logged_model_param WHERE model_id = ANY ($1::text[])"
_LOAD_TAGS = "SELECT model_id, key, value FROM logged_model_tag WHERE model_id = ANY ($1::text[])"
_SAVE_HEADS = """
INSERT INTO logged_model (model_id, workspace, experiment_id, name, artifact_uri, model_type, source_run_id, status,
                          lifecycle_stage, created_ms, updated_ms, created_by)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::bigint[], $11::bigint[], $12::uuid[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (model_id) DO UPDATE SET
    status = excluded.status, lifecycle_stage = excluded.lifecycle_stage, updated_ms = excluded.updated_ms
"""
_SAVE_PARAMS = """
INSERT INTO logged_model_param (model_id, key, value)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_TAGS = """
INSERT INTO logged_model_tag (model_id, key, value)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value
"""
_DELETE_TAGS = """
DELETE FROM logged_model_tag t USING unnest($1::text[], $2::text[]) AS gone (model_id, key)
WHERE t.model_id = gone.model_id AND t.key = gone.key AND EXISTS (SELECT FROM fence)
"""
