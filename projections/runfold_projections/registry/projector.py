"""Registered models, versions, aliases and tags into their tables."""

from collections.abc import Iterable, Sequence

from msgspec.structs import astuple

from runfold_projections.core.projector import MOST_CACHED, Projector, StateAt
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.registered_models import (
    ModelAliasSet,
    ModelFact,
    ModelsPromoted,
    ModelVersionCreated,
    ModelVersionStaged,
    PromotionCondition,
    PromotionMove,
    RegisteredModelRenamed,
    VersionFact,
)

from .fold import Model, Models, RegisteredModelChange, Version, fold
from .model_state import OneModel, of_model
from .state import encode_model

Name = tuple[str, str]
_ENTITY = "model"


class RegisteredModelsProjector(Projector):
    """Projector of registered models. Loads models with all their aliases, and the versions that a batch names."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._state = Models()
        self._names: set[Name] = set()
        self._versions: set[tuple[int, int]] = set()
        self._stages: set[tuple[int, str]] = set()
        self._pending = RegisteredModelChange()
        self._told_of: dict[int, None] = {}
        self._namings: list[tuple[str, str, int, int]] = []
        self._made_of: list[tuple[str, int, int]] = []
        self._steps: list[tuple[int, RegisteredModelChange]] = []

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        if len(self._names) + len(self._versions) > MOST_CACHED:
            self.forget()
        touched = _Touched(records)
        names = sorted(touched.names - self._names)
        if names:
            await self._load_models(connection, names)
            self._names.update(names)
        creation_offsets = {name: self._state.by_name[name] for name in touched.names if name in self._state.by_name}
        versions = {
            (creation_offset, n)
            for name, creation_offset in creation_offsets.items()
            for n in touched.versions_of(name)
        } - self._versions
        stages = {
            (creation_offset, one)
            for name, creation_offset in creation_offsets.items()
            for one in touched.stages_of(name)
        } - self._stages
        if versions or stages:
            await self._load_versions(connection, sorted(versions), sorted(stages))
            self._versions.update(versions)
            self._stages.update(stages)

    async def _load_models(self, connection: Connection, names: list[Name]) -> None:
        rows = await connection.fetch(_MODELS, [workspace for workspace, _ in names], [name for _, name in names])
        new = [Model(*row.values()) for row in rows if row["born"] not in self._state.by_offset]
        for model in new:
            self._state.put(model)
        for row in await connection.fetch(_ALIASES, [model.creation_offset for model in new]) if new else ():
            self._state.aliases.setdefault(row["born"], {})[row["alias"]] = row["version"]

    async def _load_versions(
        self, connection: Connection, versions: list[tuple[int, int]], stages: list[tuple[int, str]]
    ) -> None:
        rows = await connection.fetch(
            _VERSIONS,
            [creation_offset for creation_offset, _ in versions],
            [number for _, number in versions],
            [creation_offset for creation_offset, _ in stages],
            [stage for _, stage in stages],
        )
        for row in rows:
            self._state.versions.setdefault(row["born"], {})[row["version"]] = Version(*row.values())

    def fold(self, record: Record) -> Rejection | None:
        self._told_of = _named(self._state, record)
        answer = fold(self._state, record)
        if isinstance(answer, Rejection):
            return answer
        before = {
            creation_offset: model.name
            for creation_offset in answer.models
            if (model := self._state.by_offset.get(creation_offset)) is not None
        }
        self._state.apply(answer)
        self._record(answer)
        self._steps.append((record.position.offset, answer))
        self._told_of |= dict.fromkeys(answer.models)
        for creation_offset, model in answer.models.items():
            if before.get(creation_offset) != model.name:
                self._namings.append((model.workspace, model.name, record.position.offset, creation_offset))
        if isinstance(record.event, ModelVersionCreated) and record.event.model_id is not None:
            self._made_of += [
                (record.event.model_id, record.position.offset, creation_offset) for creation_offset in answer.models
            ]
        return None

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        return [model_entity(creation_offset) for creation_offset in self._told_of]

    def state(self, entity: str) -> bytes | None:
        # Memory holds only recently named versions, and no tags: see `reread`.
        return None

    async def reread(self, connection: Connection, entity: str) -> StateAt | None:
        """Read a whole model: the tables have it as before the batch; the batch's changes are applied on top."""
        kind, _, number = entity.partition(":")
        if kind != _ENTITY or not number.isdecimal():
            return None
        creation_offset = int(number)
        one = await _stored(connection, creation_offset)
        steps = iter(
            [(offset, part) for offset, change in self._steps if _is_some(part := of_model(change, creation_offset))]
        )
        ahead = next(steps, None)

        def state_at(next_offset: int) -> bytes | None:
            nonlocal ahead
            while ahead is not None and ahead[0] < next_offset:
                one.apply(ahead[1])
                ahead = next(steps, None)
            return encode_model(creation_offset, one) if creation_offset in one.state.by_offset else None

        return state_at

    def _record(self, change: RegisteredModelChange) -> None:
        pending = self._pending
        pending.models.update(change.models)
        pending.versions.update(change.versions)
        pending.aliases.update(change.aliases)
        pending.model_tags.update(change.model_tags)
        pending.version_tags.update(change.version_tags)
        for version in change.versions_gone:
            pending.versions.pop(version, None)
        for creation_offset in change.models_gone:
            pending.models.pop(creation_offset, None)
        pending.versions_gone += change.versions_gone
        pending.models_gone += change.models_gone

    def changes(self) -> list[RowChange]:
        pending, self._pending = self._pending, RegisteredModelChange()
        self._steps = []
        gone, versions_gone = set(pending.models_gone), set(pending.versions_gone)
        # Rows of a deleted model or version are deleted by that change alone: no two changes may touch one row.
        versions = [v for (creation_offset, _), v in pending.versions.items() if creation_offset not in gone]
        version_keys = [key for key in dict.fromkeys(pending.versions_gone) if key[0] not in gone]
        aliases = {key: on for key, on in pending.aliases.items() if key[0] not in gone}
        model_tags = {key: value for key, value in pending.model_tags.items() if key[0] not in gone}
        version_tags = {
            key: value
            for key, value in pending.version_tags.items()
            if key[0] not in gone and key[:2] not in versions_gone
        }
        namings, self._namings = self._namings, []
        made_of, self._made_of = self._made_of, []
        found = [
            *_saved(_SAVE_NAMINGS, namings),
            *_saved(_SAVE_MADE_OF, made_of),
            *_saved(_SAVE_MODELS, map(astuple, pending.models.values())),
            *_saved(_SAVE_VERSIONS, map(astuple, versions)),
            *_saved(_SAVE_ALIASES, ((*key, on) for key, on in aliases.items() if on is not None)),
            *_saved(_DELETE_ALIASES, (key for key, on in aliases.items() if on is None)),
            *_saved(_SAVE_MODEL_TAGS, ((*key, value) for key, value in model_tags.items() if value is not None)),
            *_saved(_DELETE_MODEL_TAGS, (key for key, value in model_tags.items() if value is None)),
            *_saved(_SAVE_VERSION_TAGS, ((*key, value) for key, value in version_tags.items() if value is not None)),
            *_saved(_DELETE_VERSION_TAGS, (key for key, value in version_tags.items() if value is None)),
        ]
        for statement in _DELETE_VERSIONS:
            found += _saved(statement, version_keys)
        if gone:
            found += [RowChange(statement, (sorted(gone),)) for statement in _DELETE_MODELS]
        return found


def model_entity(creation_offset: int) -> str:
    """Return the name of a registered model in the journal."""
    return f"{_ENTITY}:{creation_offset}"


async def _stored(connection: Connection, creation_offset: int) -> OneModel:
    """Load a whole model from the tables; empty if it is not there."""
    one = OneModel()
    for row in await connection.fetch(_WHOLE, creation_offset):
        one.state.put(Model(*row.values()))
    if creation_offset not in one.state.by_offset:
        return one
    one.state.aliases[creation_offset] = {
        row["alias"]: row["version"] for row in await connection.fetch(_ALIASES, [creation_offset])
    }
    rows = await connection.fetch(_ALL_VERSIONS, creation_offset)
    one.state.versions[creation_offset] = {row["version"]: Version(*row.values()) for row in rows}
    one.tags = {row["key"]: row["value"] for row in await connection.fetch(_MODEL_TAGS, creation_offset)}
    for row in await connection.fetch(_VERSION_TAGS, creation_offset):
        one.version_tags.setdefault(row["version"], {})[row["key"]] = row["value"]
    return one


def _is_some(change: RegisteredModelChange) -> bool:
    return change != RegisteredModelChange()


def _named(state: Models, record: Record) -> dict[int, None]:
    """Return the models that an event names, by their names before it."""
    event = record.event
    names = [event.name] if isinstance(event, ModelFact) else []
    if isinstance(event, RegisteredModelRenamed):
        names.append(event.new_name)
    if isinstance(event, ModelsPromoted):
        names = [move.name for move in event.moves] + [condition.name for condition in event.conditions]
    found = (state.by_name.get((record.envelope.workspace, name)) for name in names)
    return dict.fromkeys(creation_offset for creation_offset in found if creation_offset is not None)


class _Touched:
    """The names, versions, and stages to be emptied that a batch mentions."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._versions: dict[Name, set[int]] = {}
        self._stages: dict[Name, set[str]] = {}
        self._moving: set[Name] = set()
        for record in records:
            event, workspace = record.event, record.envelope.workspace
            if isinstance(event, ModelsPromoted):
                parts: list[PromotionCondition | PromotionMove] = [*event.conditions, *event.moves]
                for part in parts:
                    self._add((workspace, part.name), part.version)
                    if isinstance(part, PromotionMove) and part.archive_existing:
                        self._add((workspace, part.name), stage=part.stage)
            elif isinstance(event, ModelFact):
                number = event.version if isinstance(event, VersionFact | ModelAliasSet) else None
                self._add((workspace, event.name), number)
                if isinstance(event, ModelVersionStaged) and event.archive_existing:
                    self._add((workspace, event.name), stage=event.stage)
                if isinstance(event, RegisteredModelRenamed):
                    self._add((workspace, event.new_name))
                    self._moving |= {(workspace, event.name), (workspace, event.new_name)}

    def _add(self, name: Name, version: int | None = None, stage: str | None = None) -> None:
        self._versions.setdefault(name, set()).update(() if version is None else (version,))
        self._stages.setdefault(name, set()).update(() if stage is None else (stage,))

    @property
    def names(self) -> set[Name]:
        return set(self._versions)

    def versions_of(self, name: Name) -> set[int]:
        """Return the versions that the batch may mean of the model that has this name before it: names move within a
        batch.
        """
        return set[int]().union(*(self._versions[one] for one in self._together(name)))

    def stages_of(self, name: Name) -> set[str]:
        """Return the stages to be emptied that the batch may mean of that model."""
        return set[str]().union(*(self._stages[one] for one in self._together(name)))

    def _together(self, name: Name) -> set[Name]:
        return self._moving if name in self._moving else {name}


def _saved(statement: str, rows: Iterable[Sequence[object]]) -> list[RowChange]:
    found = list(rows)
    return [RowChange(statement, columns(found))] if found else []


# LATERAL … OFFSET 0: row by row through the index. A plan is made while the tables of a new generation are empty, when
# a join by hash, which reads them whole, looks cheap; and it stays, whatever comes, until they are analysed.
_MODELS = """
SELECT m.born, m.workspace, m.name, m.description, m.created_ms, m.updated_ms, m.renamed_ms, m.last_version, m.is_prompt
FROM unnest($1::text[], $2::text[]) AS wanted (workspace, name) CROSS JOIN LATERAL (
    SELECT * FROM registered_model WHERE workspace = wanted.workspace AND name = wanted.name OFFSET 0
) m
"""
_WHOLE = """
SELECT born, workspace, name, description, created_ms, updated_ms, renamed_ms, last_version, is_prompt
FROM registered_model WHERE born = $1
"""
_ALL_VERSIONS = """
SELECT born, version, log_offset, source, storage_location, run_id, run_link, model_id, description, stage, created_ms,
    updated_ms
FROM model_version WHERE born = $1 ORDER BY version
"""
_MODEL_TAGS = "SELECT key, value FROM registered_model_tag WHERE born = $1"
_VERSION_TAGS = "SELECT version, key, value FROM model_version_tag WHERE born = $1"
_ALIASES = "SELECT born, alias, version FROM model_alias WHERE born = ANY ($1::bigint[])"
_VERSIONS = """
SELECT v.* FROM unnest($1::bigint[], $2::integer[]) AS wanted (born, version) CROSS JOIN LATERAL (
    SELECT born, version, log_offset, source, storage_location, run_id, run_link, model_id, description, stage,
        created_ms, updated_ms
    FROM model_version WHERE born = wanted.born AND version = wanted.version OFFSET 0
) v
UNION ALL
SELECT v.* FROM unnest($3::bigint[], $4::text[]) AS wanted (born, stage) CROSS JOIN LATERAL (
    SELECT born, version, log_offset, source, storage_location, run_id, run_link, model_id, description, stage,
        created_ms, updated_ms
    FROM model_version WHERE born = wanted.born AND stage = wanted.stage OFFSET 0
) v
"""
_SAVE_MODELS = """
INSERT INTO registered_model (born, workspace, name, description, created_ms, updated_ms, renamed_ms, last_version,
    is_prompt)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::integer[], $9::boolean[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (born) DO UPDATE SET
    name = excluded.name, description = excluded.description, updated_ms = excluded.updated_ms,
        renamed_ms = excluded.renamed_ms,
    last_version = excluded.last_version, is_prompt = excluded.is_prompt
"""
_SAVE_VERSIONS = """
INSERT INTO model_version (born, version, log_offset, source, storage_location, run_id, run_link, model_id,
    description, stage, created_ms,
                           updated_ms)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[],
                     $10::text[], $11::bigint[], $12::bigint[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (born, version) DO UPDATE SET
    description = excluded.description, stage = excluded.stage, updated_ms = excluded.updated_ms
"""
_SAVE_NAMINGS = """
INSERT INTO model_naming (workspace, name, log_offset, born)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_MADE_OF = """
INSERT INTO model_made_of (model_id, log_offset, born)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_ALIASES = """
INSERT INTO model_alias (born, alias, version)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::integer[]) WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (born, alias) DO UPDATE SET version = excluded.version
"""
_DELETE_ALIASES = """
DELETE FROM model_alias a USING unnest($1::bigint[], $2::text[]) AS gone (born, alias)
WHERE a.born = gone.born AND a.alias = gone.alias AND EXISTS (SELECT FROM fence)
"""
_SAVE_MODEL_TAGS = """
INSERT INTO registered_model_tag (born, key, value)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (born, key) DO UPDATE SET value = excluded.value
"""
_DELETE_MODEL_TAGS = """
DELETE FROM registered_model_tag t USING unnest($1::bigint[], $2::text[]) AS gone (born, key)
WHERE t.born = gone.born AND t.key = gone.key AND EXISTS (SELECT FROM fence)
"""
_SAVE_VERSION_TAGS = """
INSERT INTO model_version_tag (born, version, key, value)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[]) WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (born, version, key) DO UPDATE SET value = excluded.value
"""
_DELETE_VERSION_TAGS = """
DELETE FROM model_version_tag t USING unnest($1::bigint[], $2::integer[], $3::text[]) AS gone (born, version, key)
WHERE t.born = gone.born AND t.version = gone.version AND t.key = gone.key AND EXISTS (SELECT FROM fence)
"""
_DELETE_VERSIONS = (
    """
    DELETE FROM model_version v USING unnest($1::bigint[], $2::integer[]) AS gone (born, version)
    WHERE v.born = gone.born AND v.version = gone.version AND EXISTS (SELECT FROM fence)
    """,
    """
    DELETE FROM model_version_tag t USING unnest($1::bigint[], $2::integer[]) AS gone (born, version)
    WHERE t.born = gone.born AND t.version = gone.version AND EXISTS (SELECT FROM fence)
    """,
)
_DELETE_MODELS = (
    "DELETE FROM registered_model WHERE born = ANY ($1::bigint[]) AND EXISTS (SELECT FROM fence)",
    "DELETE FROM registered_model_tag WHERE born = ANY ($1::bigint[]) AND EXISTS (SELECT FROM fence)",
    "DELETE FROM model_alias WHERE born = ANY ($1::bigint[]) AND EXISTS (SELECT FROM fence)",
    "DELETE FROM model_version WHERE born = ANY ($1::bigint[]) AND EXISTS (SELECT FROM fence)",
    "DELETE FROM model_version_tag WHERE born = ANY ($1::bigint[]) AND EXISTS (SELECT FROM fence)",
)
