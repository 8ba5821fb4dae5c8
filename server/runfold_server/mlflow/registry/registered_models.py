"""registered-models/*. The registry's fold decides; reads are strong."""

from typing import Annotated, Any

from runfold_log.writer import Appended
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import registered_model_at
from runfold_projections.registry.fold import PROMPT_TAG
from runfold_projections.registry.queries import RegisteredModel, get_registered_model, search_registered_models
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.registered_models import (
    ModelAliasDeleted,
    ModelAliasSet,
    ModelFact,
    RegisteredModelCreated,
    RegisteredModelDeleted,
    RegisteredModelDescribed,
    RegisteredModelRenamed,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
)
from runfold_server.core.errors import Internal, InvalidParameter
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import offset_tokens
from runfold_server.mlflow.answers.registry import encode_model_version, encode_registered_model
from runfold_server.mlflow.answers.values import encode_page
from runfold_server.mlflow.messages import Tag
from runfold_server.openapi_schemas.common import having, listed, page, ref
from runfold_server.reads.reader import Query

from . import registry_validation as limits
from .registry_errors import no_version
from .registry_writes import append_and_read, append_and_wait, vector_after
from .version_search import REGISTRY, canonical_stage, find_model, version_by_alias

Json = dict[str, Any]
MOST_RESULTS = 1000


class ModelRequest(Message, frozen=True):
    """A request about one registered model."""

    name: str


class CreateModel(ModelRequest, frozen=True):
    """registered-models/create."""

    tags: tuple[Tag, ...] = ()
    description: str | None = None


class RenameModel(ModelRequest, frozen=True):
    """registered-models/rename."""

    new_name: str


class UpdateModel(ModelRequest, frozen=True):
    """registered-models/update."""

    description: str | None = None


class SearchModels(Message, frozen=True):
    """registered-models/search."""

    filter: str = ""
    max_results: Annotated[int, Rule(most=MOST_RESULTS)] = 100
    order_by: tuple[str, ...] = ()
    page_token: str | None = None


class GetLatestVersions(ModelRequest, frozen=True):
    """registered-models/get-latest-versions."""

    stages: tuple[str, ...] = ()


class SetModelTag(ModelRequest, frozen=True):
    """registered-models/set-tag."""

    key: str
    value: str = ""


class DeleteModelTag(ModelRequest, frozen=True):
    """registered-models/delete-tag."""

    key: str


class AliasRequest(ModelRequest, frozen=True):
    """A request about one alias of a registered model."""

    alias: str


class SetAlias(AliasRequest, frozen=True):
    """registered-models/alias, by POST."""

    version: str


async def _create(services: Services, call: Call[CreateModel]) -> Json:
    name = limits.check_new_model_name(call.request.name)
    tags = dict(limits.check_tag(tag.key, tag.value) for tag in call.request.tags)
    event = RegisteredModelCreated(name=name, description=call.request.description or None, tags=tags)
    done = await append_and_wait(services, call.origin, event)
    # All fields of a new model are known, so no read is needed.
    created = RegisteredModel(
        creation_offset=done.position.offset,
        workspace=call.origin.workspace,
        name=name,
        description=event.description,
        created_ms=done.time_ms,
        updated_ms=done.time_ms,
        last_version=0,
        is_prompt=PROMPT_TAG in tags,
        tags=tags,
        aliases={},
        latest=[],
    )
    return {"registered_model": encode_registered_model(created)}


async def _get(services: Services, call: Call[ModelRequest]) -> Json:
    return {"registered_model": encode_registered_model(await find_model(services, call.request.name, call.as_of))}


async def _change(services: Services, call: Call[Any], event: ModelFact, name: str) -> Json:
    """Append, wait for the fold, and answer with the model as it is afterwards."""

    def query_after(done: Appended) -> Query[RegisteredModel | None]:
        async def query(connection: Connection) -> RegisteredModel | None:
            found = await get_registered_model(connection, DEFAULT_WORKSPACE, name)
            # Renamed or deleted since: answer with the model as the event left it.
            return found or await registered_model_at(connection, DEFAULT_WORKSPACE, name, vector_after(done))

        return query

    return _answer(await append_and_read(services, call.origin, event, query_after))


def _answer(model: RegisteredModel | None) -> Json:
    if model is None:
        raise Internal("The write was accepted, but its registered model is not in the read models")
    return {"registered_model": encode_registered_model(model)}


async def _rename(services: Services, call: Call[RenameModel]) -> Json:
    name, new_name = call.request.name, limits.check_new_model_name(call.request.new_name, "new_name")
    limits.check_model_name(name)
    return await _change(services, call, RegisteredModelRenamed(name=name, new_name=new_name), new_name)


async def _update(services: Services, call: Call[UpdateModel]) -> Json:
    name = limits.check_model_name(call.request.name)
    event = RegisteredModelDescribed(name=name, description=call.request.description or None)
    return await _change(services, call, event, name)


async def _delete(services: Services, call: Call[ModelRequest]) -> Json:
    name = limits.check_model_name(call.request.name)
    await append_and_wait(services, call.origin, RegisteredModelDeleted(name=name))
    return {}


async def _search(services: Services, call: Call[SearchModels]) -> Json:
    limit, offset = call.request.max_results, offset_tokens.read_token(call.request.page_token)
    if limit < 1:
        raise InvalidParameter(f"Invalid value for max_results. It must be a positive integer, but got {limit}")

    async def query(connection: Connection) -> list[RegisteredModel]:
        return await search_registered_models(
            connection, DEFAULT_WORKSPACE, call.request.filter, call.request.order_by, limit + 1, offset
        )

    rows = (await services.reads.reader.read(REGISTRY, query)).value
    token = offset_tokens.make_token(offset + limit) if len(rows) > limit else None
    return encode_page("registered_models", [encode_registered_model(row) for row in rows[:limit]], token)


async def _latest(services: Services, call: Call[GetLatestVersions]) -> Json:
    model = await find_model(services, call.request.name, call.as_of)
    stages = {canonical_stage(stage) for stage in call.request.stages}
    found = [version for version in model.latest if not stages or version.stage in stages]
    return {"model_versions": [encode_model_version(version) for version in found]} if found else {}


async def _set_tag(services: Services, call: Call[SetModelTag]) -> Json:
    name = limits.check_model_name(call.request.name)
    key, value = limits.check_tag(call.request.key, call.request.value)
    await append_and_wait(services, call.origin, RegisteredModelTagsSet(name=name, tags={key: value}))
    return {}


async def _delete_tag(services: Services, call: Call[DeleteModelTag]) -> Json:
    name = limits.check_model_name(call.request.name)
    key = limits.check_tag_key(call.request.key)
    await append_and_wait(services, call.origin, RegisteredModelTagsDeleted(name=name, keys=[key]))
    return {}


async def _set_alias(services: Services, call: Call[SetAlias]) -> Json:
    name = limits.check_model_name(call.request.name)
    alias, number = limits.check_new_alias(call.request.alias), limits.version_number(call.request.version)
    if not 0 < number < 2**31:
        raise no_version(name, call.request.version)
    await append_and_wait(services, call.origin, ModelAliasSet(name=name, alias=alias, version=number))
    return {}


async def _delete_alias(services: Services, call: Call[AliasRequest]) -> Json:
    name, alias = limits.check_model_name(call.request.name), limits.check_alias(call.request.alias)
    await append_and_wait(services, call.origin, ModelAliasDeleted(name=name, alias=alias))
    return {}


async def _get_by_alias(services: Services, call: Call[AliasRequest]) -> Json:
    return {
        "model_version": encode_model_version(
            await version_by_alias(services, call.request.name, call.request.alias, call.as_of)
        )
    }


_MODEL = having({"registered_model": ref("RegisteredModel")})
VERSION = having({"model_version": ref("ModelVersion")})
_VERSIONS = having({}, {"model_versions": listed(ref("ModelVersion"))})
_LATEST = "The version with the largest number of each of these stages, or of each stage."
# The log's feature level may exclude the registry.
UNLEVELLED = (501,)

OPERATIONS = (
    Operation(
        "POST",
        "registered-models/create",
        CreateModel,
        _create,
        about="Create a registered model. Its name must be new.",
        answer=_MODEL,
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "registered-models/get",
        ModelRequest,
        _get,
        about="A registered model by its name, with its aliases and the latest version of each stage.",
        answer=_MODEL,
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "POST",
        "registered-models/rename",
        RenameModel,
        _rename,
        about="Rename a registered model with its versions, aliases and tags.",
        answer=_MODEL,
        errors=UNLEVELLED,
    ),
    Operation(
        "PATCH",
        "registered-models/update",
        UpdateModel,
        _update,
        about="Set the description of a registered model.",
        answer=_MODEL,
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "registered-models/delete",
        ModelRequest,
        _delete,
        about="Delete a registered model with its versions, aliases and tags. Its history stays in the log.",
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "registered-models/search",
        SearchModels,
        _search,
        about="Registered models that match a filter, a page at a time. Prompts are found only if the filter names "
        "them.",
        answer=page("registered_models", "RegisteredModel"),
        time_travel=TimeTravel.SNAPSHOT,
    ),
    Operation(
        "GET",
        "registered-models/get-latest-versions",
        GetLatestVersions,
        _latest,
        about=_LATEST,
        answer=_VERSIONS,
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "POST",
        "registered-models/get-latest-versions",
        GetLatestVersions,
        _latest,
        about=_LATEST,
        answer=_VERSIONS,
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "POST",
        "registered-models/set-tag",
        SetModelTag,
        _set_tag,
        about="Set a tag of a registered model.",
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "registered-models/delete-tag",
        DeleteModelTag,
        _delete_tag,
        about="Remove a tag of a registered model. A missing tag is no error.",
        errors=UNLEVELLED,
    ),
    Operation(
        "POST",
        "registered-models/alias",
        SetAlias,
        _set_alias,
        about="Set an alias on a version.",
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "registered-models/alias",
        AliasRequest,
        _delete_alias,
        about="Remove an alias. A missing alias is no error.",
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "registered-models/alias",
        AliasRequest,
        _get_by_alias,
        about="The version that an alias points to; `latest` is the version with the largest number.",
        answer=VERSION,
        time_travel=TimeTravel.AS_OF,
    ),
)
