"""Look-ups of registered models and versions by strong reads, with MLflow's errors for missing ones."""

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
from runfold_server.reads.scopes import of_topics

from . import registry_validation as limits
from .registry_errors import no_model, no_version

REGISTRY = of_topics(Topic.REGISTRY)
_CANONICAL = {stage.lower(): stage for stage in STAGES}
LATEST = "latest"


async def find_model(services: Services, name: str, as_of: Vector | None = None) -> RegisteredModel:
    """Return the model, now or at `as_of`; NotFound if it does not exist."""
    limits.check_model_name(name)

    async def query(connection: Connection) -> RegisteredModel | None:
        if as_of is not None:
            return await registered_model_at(connection, DEFAULT_WORKSPACE, name, as_of)
        return await get_registered_model(connection, DEFAULT_WORKSPACE, name)

    shown = await services.reads.reader.read(REGISTRY, query, as_of=as_of)
    if shown.value is None:
        raise error_as_of(no_model(name), as_of)
    return shown.value


async def version_of(services: Services, name: str, text: str, as_of: Vector | None = None) -> ModelVersion:
    """Return the version with the number in `text`, now or at `as_of`; NotFound if it does not exist."""
    limits.check_model_name(name)
    number = limits.version_number(text)

    async def query(connection: Connection) -> ModelVersion | None:
        if as_of is not None:
            return await model_version_at(connection, DEFAULT_WORKSPACE, name, number, as_of)
        return await get_model_version(connection, DEFAULT_WORKSPACE, name, number)

    shown = await services.reads.reader.read(REGISTRY, query, as_of=as_of)
    if shown.value is None:
        raise error_as_of(no_version(name, text), as_of)
    return shown.value


def error_as_of(error: ApiError, as_of: Vector | None) -> ApiError:
    """Return the error with the moment that it is about; None is the present and adds nothing."""
    return error if as_of is None else type(error)(f"{error.message.rstrip('.')}{as_of_suffix(as_of, Topic.REGISTRY)}")


async def version_by_alias(services: Services, name: str, alias: str, as_of: Vector | None = None) -> ModelVersion:
    """Return the version that an alias points to; `latest`, in any case, is the version with the largest number."""
    limits.check_model_name(name)
    limits.check_alias(alias)

    async def query(connection: Connection) -> tuple[RegisteredModel | None, ModelVersion | None]:
        if as_of is not None:
            found = await model_state_at(connection, DEFAULT_WORKSPACE, name, as_of)
            if found is None:
                return None, None
            creation_offset, one = found
            number = one.state.aliases.get(creation_offset, {}).get(alias) if alias.lower() != LATEST else None
            standing = [] if number is None else shown_versions(creation_offset, one, [number])
            return shown_model(creation_offset, one), standing[0] if standing else None
        if alias.lower() != LATEST:
            version = await model_version_by_alias(connection, DEFAULT_WORKSPACE, name, alias)
            if version is not None:
                return None, version
        return await get_registered_model(connection, DEFAULT_WORKSPACE, name), None

    model, version = (await services.reads.reader.read(REGISTRY, query, as_of=as_of)).value
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
    """Return the canonical name of a stage; InvalidParameter for an unknown one."""
    known = _CANONICAL.get(stage.lower())
    if known is None:
        raise InvalidParameter(f"Invalid Model Version stage: {stage}. Value must be one of {', '.join(STAGES)}.")
    return known


async def latest_of(services: Services, model: RegisteredModel, stage: str | None) -> ModelVersion:
    """Return the version with the largest number, of one stage or of all."""
    wanted: Sequence[str] = STAGES if stage is None else (canonical_stage(stage),)
    found = [version for version in model.latest if version.stage in wanted]
    if not found:
        where = "" if stage is None else f" and stage '{stage}'"
        raise InvalidParameter(f"No versions of model with name '{model.name}'{where} found")
    return max(found, key=lambda one: one.version)
