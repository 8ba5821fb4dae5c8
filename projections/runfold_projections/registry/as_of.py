"""Registered models, their versions and aliases as of a moment of the log."""

from collections.abc import Sequence

from runfold_projections.history.timeline import state_at
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .history import RegisteredModelHistory
from .model_state import OneModel
from .names import models_ever_named
from .queries import RegisteredModel
from .version_queries import STAGES, ModelVersion

REGISTRY = Partition(Topic.REGISTRY, 0)


async def model_state_at(
    connection: Connection, workspace: str, name: str, vector: Vector
) -> tuple[int, OneModel] | None:
    """Return the identity and the state of the model that had this name; None if none had it."""
    if not storable(workspace) or not storable(name):
        return None
    end = vector.get(REGISTRY, 0)
    for creation_offset in await models_ever_named(connection, workspace, name, end):
        one = await state_at(connection, RegisteredModelHistory(creation_offset), end)
        model = one.state.by_offset.get(creation_offset)
        if model is not None and model.name == name:
            return creation_offset, one
    return None


async def registered_model_at(
    connection: Connection, workspace: str, name: str, vector: Vector
) -> RegisteredModel | None:
    """Return the model that had this name, with its latest version of each stage."""
    found = await model_state_at(connection, workspace, name, vector)
    return None if found is None else shown_model(*found)


def shown_model(creation_offset: int, one: OneModel) -> RegisteredModel:
    """Return a model as queries of the present return it."""
    model = one.state.by_offset[creation_offset]
    newest = {version.stage: number for number, version in sorted(one.state.versions.get(creation_offset, {}).items())}
    latest = sorted(newest[stage] for stage in STAGES if stage in newest)
    return RegisteredModel(
        creation_offset=creation_offset,
        workspace=model.workspace,
        name=model.name,
        description=model.description,
        created_ms=model.created_ms,
        updated_ms=model.updated_ms,
        last_version=model.last_version,
        is_prompt=model.is_prompt,
        tags=dict(sorted(one.tags.items())),
        aliases=dict(sorted(one.state.aliases.get(creation_offset, {}).items())),
        latest=shown_versions(creation_offset, one, latest),
    )


def versions_of(creation_offset: int, one: OneModel, limit: int, offset: int) -> list[ModelVersion]:
    """Return a page of a model's versions, the largest number first."""
    numbers = sorted(one.state.versions.get(creation_offset, {}), reverse=True)
    return shown_versions(creation_offset, one, numbers[offset : offset + limit])


def shown_versions(creation_offset: int, one: OneModel, numbers: Sequence[int]) -> list[ModelVersion]:
    """Return those of these versions of a model that exist."""
    model, versions = one.state.by_offset[creation_offset], one.state.versions.get(creation_offset, {})
    standing: dict[int, list[str]] = {}
    for alias, on in sorted(one.state.aliases.get(creation_offset, {}).items()):
        standing.setdefault(on, []).append(alias)
    return [
        ModelVersion(
            creation_offset=creation_offset,
            name=model.name,
            version=number,
            source=version.source,
            storage_location=version.storage_location,
            run_id=version.run_id,
            run_link=version.run_link,
            model_id=version.model_id,
            description=version.description,
            stage=version.stage,
            created_ms=version.created_ms,
            updated_ms=max(version.updated_ms, model.renamed_ms),
            tags=dict(sorted(one.version_tags.get(number, {}).items())),
            aliases=standing.get(number, []),
        )
        for number in numbers
        if (version := versions.get(number)) is not None
    ]


async def model_version_at(
    connection: Connection, workspace: str, name: str, number: int, vector: Vector
) -> ModelVersion | None:
    """Return the version of this number; None if it did not exist."""
    found = await model_state_at(connection, workspace, name, vector)
    versions = [] if found is None else shown_versions(*found, [number])
    return versions[0] if versions else None


async def newest_version_at(connection: Connection, workspace: str, name: str, vector: Vector) -> ModelVersion | None:
    """Return the version that was created last, if it existed; else None."""
    found = await model_state_at(connection, workspace, name, vector)
    if found is None:
        return None
    creation_offset, one = found
    versions = shown_versions(creation_offset, one, [one.state.by_offset[creation_offset].last_version])
    return versions[0] if versions else None


async def versions_made_of(
    connection: Connection, workspace: str, model_id: str, vector: Vector
) -> list[tuple[str, str]]:
    """Return name and number of the versions created from a logged model, in order, without those of prompts."""
    end = vector.get(REGISTRY, 0)
    found = []
    for row in await connection.fetch(_MADE_OF, model_id, end):
        creation_offset = row["born"]
        state = (await state_at(connection, RegisteredModelHistory(creation_offset), end)).state
        model = state.by_offset.get(creation_offset)
        if model is not None and model.workspace == workspace and not model.is_prompt:
            versions = state.versions.get(creation_offset, {}).values()
            found += [(model.name, version.version) for version in versions if version.model_id == model_id]
    return [(name, str(number)) for name, number in sorted(found)]


_MADE_OF = "SELECT DISTINCT born FROM model_made_of WHERE model_id = $1 AND log_offset < $2"
