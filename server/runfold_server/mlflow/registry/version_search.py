"""Registered models and versions found by strong reads; what is not there is refused in MLflow's words."""

from collections.abc import Sequence

from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import (
    model_state_at,
    model_version_at,
    registered_model_at,
    shown_model,
    shown_versions,
)
from runfold_projections.registry.queries import RegisteredModel, get_registered_model
from runfold_projections.registry.version_queries import STAGES, ModelVersion, get_model_version, model_version_by_alias
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import as_of_suffix
from runfold_server.core.errors import ApiError, InvalidParameter, NotFound
from runfold_server.http.services import Services
from runfold_server.reads.reader import of_topics

from . import registry_validation as limits
from .registry_errors import no_model, no_version

REGISTRY = of_topics(Topic.REGISTRY)
_CANONICAL = {stage.lower(): stage for stage in STAGES}
LATEST = "latest"


async def find_model(services: Services, name: str, as_of: Vector | None = None) -> RegisteredModel:
    """The model; NotFound if there is none, or was none then."""
    limits.check_model_name(name)

    async def query(connection: Connection) -> RegisteredModel | None:
        if as_of is not None:
            return await registered_model_at(connection, DEFAULT_WORKSPACE, name, as_of)
        return await get_registered_model(connection, DEFAULT_WORKSPACE, name)

    shown = await services.reads.reader.asked(as_of, REGISTRY, query)
    if shown.value is None:
        raise error_as_of(no_model(name), as_of)
    return shown.value


async def version_of(services: Services, name: str, text: str, as_of: Vector | None = None) -> ModelVersion:
    """The version of this number, given as text; NotFound if there is none, or was none then."""
    limits.check_model_name(name)
    number = limits.version_number(text)

    async def query(connection: Connection) -> ModelVersion | None:
        if as_of is not None:
            return await model_version_at(connection, DEFAULT_WORKSPACE, name, number, as_of)
        return await get_model_version(connection, DEFAULT_WORKSPACE, name, number)

    shown = await services.reads.reader.asked(as_of, REGISTRY, query)
    if shown.value is None:
        raise error_as_of(no_version(name, text), as_of)
    return shown.value


def error_as_of(error: ApiError, as_of: Vector | None) -> ApiError:
    """An error about the past says of when."""
    return error if as_of is None else type(error)(f"{error.message.rstrip('.')}{as_of_suffix(as_of, Topic.REGISTRY)}")


async def version_by_alias(services: Services, name: str, alias: str, as_of: Vector | None = None) -> ModelVersion:
    """The version that an alias stands on; `latest`, in any case, is the one of the largest number."""
    limits.check_model_name(name)
    limits.check_alias(alias)

    async def query(connection: Connection) -> tuple[RegisteredModel | None, ModelVersion | None]:
        if as_of is not None:
            found = await model_state_at(connection, DEFAULT_WORKSPACE, name, as_of)
            if found is None:
                return None, None
            born, one = found
            number = one.state.aliases.get(born, {}).get(alias) if alias.lower() != LATEST else None
            standing = [] if number is None else shown_versions(born, one, [number])
            return shown_model(born, one), standing[0] if standing else None
        if alias.lower() != LATEST:
            version = await model_version_by_alias(connection, DEFAULT_WORKSPACE, name, alias)
            if version is not None:
                return None, version
        return await get_registered_model(connection, DEFAULT_WORKSPACE, name), None

    model, version = (await services.reads.reader.asked(as_of, REGISTRY, query)).value
    if version is not None:
        return version
    if model is None:
        raise error_as_of(no_model(name), as_of)
    if alias.lower() == LATEST:
        if not model.latest:
            raise NotFound(f"Latest version not found for model {name}.")
        return max(model.latest, key=lambda one: one.version)
    raise error_as_of(InvalidParameter(f"Registered model alias {alias} not found."), as_of)


def canonical_stage(stage: str) -> str:
    """A stage's name as it is kept; InvalidParameter if it is none."""
    known = _CANONICAL.get(stage.lower())
    if known is None:
        raise InvalidParameter(f"Invalid Model Version stage: {stage}. Value must be one of {', '.join(STAGES)}.")
    return known


async def latest_of(services: Services, model: RegisteredModel, stage: str | None) -> ModelVersion:
    """The version of the largest number, in a stage or at all."""
    wanted: Sequence[str] = STAGES if stage is None else (canonical_stage(stage),)
    found = [version for version in model.latest if version.stage in wanted]
    if not found:
        where = "" if stage is None else f" and stage '{stage}'"
        raise InvalidParameter(f"No versions of model with name '{model.name}'{where} found")
    return max(found, key=lambda one: one.version)
