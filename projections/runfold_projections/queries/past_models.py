"""Registered models, their versions and aliases as they were at a moment of the log."""

from runfold_schemas.position import Partition
from runfold_schemas.topics import Topic
from runfold_schemas.vector import Vector

from ..database import Connection
from ..search.tokens import storable
from .model_versions import STAGES, ModelVersion
from .registered_models import RegisteredModel
from .stories.registered_models import ModelStory, OneModel
from .timelines import holders, state_of

REGISTRY = Partition(Topic.REGISTRY, 0)


async def model_state_at(conn: Connection, workspace: str, name: str, vector: Vector) -> tuple[int, OneModel] | None:
    """The model that had this name, and its identity."""
    if not storable(workspace) or not storable(name):
        return None
    end = vector.get(REGISTRY, 0)
    for born in await holders(conn, workspace, name, end):
        one = await state_of(conn, ModelStory(born), end)
        model = one.state.by_born.get(born)
        if model is not None and model.name == name:
            return born, one
    return None


async def registered_model_at(conn: Connection, workspace: str, name: str, vector: Vector) -> RegisteredModel | None:
    """The model that had this name, with the latest version that it had of each stage."""
    found = await model_state_at(conn, workspace, name, vector)
    return None if found is None else shown_model(*found)


def shown_model(born: int, one: OneModel) -> RegisteredModel:
    """A model as it is shown."""
    model = one.state.by_born[born]
    versions = versions_of(born, one)
    latest = [
        max(own, key=lambda v: v.version) for stage in STAGES if (own := [v for v in versions if v.stage == stage])
    ]
    return RegisteredModel(
        born=born,
        workspace=model.workspace,
        name=model.name,
        description=model.description,
        created_ms=model.created_ms,
        updated_ms=model.updated_ms,
        last_version=model.last_version,
        is_prompt=model.is_prompt,
        tags=dict(sorted(one.tags.items())),
        aliases=dict(sorted(one.state.aliases.get(born, {}).items())),
        latest=sorted(latest, key=lambda version: version.version),
    )


def versions_of(born: int, one: OneModel) -> list[ModelVersion]:
    """All versions of a model, the newest first."""
    model, aliases = one.state.by_born[born], one.state.aliases.get(born, {})
    return [
        ModelVersion(
            born=born,
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
            aliases=sorted(alias for alias, on in aliases.items() if on == number),
        )
        for number, version in sorted(one.state.versions.get(born, {}).items(), reverse=True)
    ]


async def model_version_at(
    conn: Connection, workspace: str, name: str, number: int, vector: Vector
) -> ModelVersion | None:
    """The version of this number."""
    found = await model_state_at(conn, workspace, name, vector)
    versions = [] if found is None else versions_of(*found)
    return next((version for version in versions if version.version == number), None)
