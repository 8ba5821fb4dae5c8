"""registered-models/*: the registry's fold decides; reads are strong."""

from typing import Any

from runfold_log.writer import Appended
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import registered_model_at
from runfold_projections.registry.fold import PROMPT_TAG
from runfold_projections.registry.queries import RegisteredModel, get_registered_model, search_registered_models
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
from runfold_schemas.events.runs import DEFAULT_WORKSPACE
from runfold_server.core.errors import Internal, InvalidParameter
from runfold_server.http.operation import Call, Operation
from runfold_server.http.request_fields import Field, Kind
from runfold_server.http.services import Services
from runfold_server.mlflow import page_tokens
from runfold_server.mlflow.answers import registry as answers
from runfold_server.mlflow.answers import runs as pages_of
from runfold_server.openapi_schemas.common import having, listed, page, ref
from runfold_server.reads.reader import Query

from . import validation as limits
from .errors import no_version
from .version_search import REGISTRY, canonical_stage, find_model, version_by_alias
from .writes import behind, decide, decided

Json = dict[str, Any]
MOST_RESULTS = 1000
TAG = (Field("key", default=""), Field("value", default=""))


async def _create(services: Services, call: Call) -> Json:
    name = limits.check_new_model_name(call.args["name"])
    tags = dict(limits.check_tag(tag["key"], tag["value"]) for tag in call.args["tags"])
    event = RegisteredModelCreated(name=name, description=call.args["description"] or None, tags=tags)
    done = await decided(services, call.origin, event)
    # All is known of a model that was just born.
    created = RegisteredModel(
        born=done.position.offset,
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
    return {"registered_model": answers.registered_model(created)}


async def _get(services: Services, call: Call) -> Json:
    return {"registered_model": answers.registered_model(await find_model(services, call.args["name"], call.as_of))}


async def _changed(services: Services, call: Call, event: ModelFact, name: str) -> Json:
    """Decide, and answer with the model as it is then."""

    def then(done: Appended) -> Query[RegisteredModel | None]:
        async def query(connection: Connection) -> RegisteredModel | None:
            found = await get_registered_model(connection, DEFAULT_WORKSPACE, name)
            # Renamed or deleted since: then as the event left it.
            return found or await registered_model_at(connection, DEFAULT_WORKSPACE, name, behind(done))

        return query

    return _answered(await decide(services, call.origin, event, then))


def _answered(model: RegisteredModel | None) -> Json:
    if model is None:
        raise Internal("The write was accepted, but nothing tells of the registered model")
    return {"registered_model": answers.registered_model(model)}


async def _rename(services: Services, call: Call) -> Json:
    name, new_name = call.args["name"], limits.check_new_model_name(call.args["new_name"], "new_name")
    limits.check_model_name(name)
    return await _changed(services, call, RegisteredModelRenamed(name=name, new_name=new_name), new_name)


async def _update(services: Services, call: Call) -> Json:
    name = limits.check_model_name(call.args["name"])
    event = RegisteredModelDescribed(name=name, description=call.args["description"] or None)
    return await _changed(services, call, event, name)


async def _delete(services: Services, call: Call) -> Json:
    name = limits.check_model_name(call.args["name"])
    await decided(services, call.origin, RegisteredModelDeleted(name=name))
    return {}


async def _search(services: Services, call: Call) -> Json:
    limit, offset = call.args["max_results"], page_tokens.read_token(call.args["page_token"])
    if limit < 1:
        raise InvalidParameter(f"Invalid value for max_results. It must be a positive integer, but got {limit}")

    async def query(connection: Connection) -> list[RegisteredModel]:
        return await search_registered_models(
            connection, DEFAULT_WORKSPACE, call.args["filter"], call.args["order_by"], limit + 1, offset
        )

    rows = (await services.reads.reader.strong(REGISTRY, query)).value
    token = page_tokens.make_token(offset + limit) if len(rows) > limit else None
    return pages_of.page("registered_models", [answers.registered_model(row) for row in rows[:limit]], token)


async def _latest(services: Services, call: Call) -> Json:
    model = await find_model(services, call.args["name"], call.as_of)
    stages = {canonical_stage(stage) for stage in call.args["stages"]}
    found = [version for version in model.latest if not stages or version.stage in stages]
    return {"model_versions": [answers.model_version(version) for version in found]} if found else {}


async def _set_tag(services: Services, call: Call) -> Json:
    name = limits.check_model_name(call.args["name"])
    key, value = limits.check_tag(call.args["key"], call.args["value"])
    await decided(services, call.origin, RegisteredModelTagsSet(name=name, tags={key: value}))
    return {}


async def _delete_tag(services: Services, call: Call) -> Json:
    name = limits.check_model_name(call.args["name"])
    key = limits.check_tag_key(call.args["key"])
    await decided(services, call.origin, RegisteredModelTagsDeleted(name=name, keys=[key]))
    return {}


async def _set_alias(services: Services, call: Call) -> Json:
    name = limits.check_model_name(call.args["name"])
    alias, number = limits.check_new_alias(call.args["alias"]), limits.version_number(call.args["version"])
    if not 0 < number < 2**31:
        raise no_version(name, call.args["version"])
    await decided(services, call.origin, ModelAliasSet(name=name, alias=alias, version=number))
    return {}


async def _delete_alias(services: Services, call: Call) -> Json:
    name, alias = limits.check_model_name(call.args["name"]), limits.check_alias(call.args["alias"])
    await decided(services, call.origin, ModelAliasDeleted(name=name, alias=alias))
    return {}


async def _get_by_alias(services: Services, call: Call) -> Json:
    return {
        "model_version": answers.model_version(
            await version_by_alias(services, call.args["name"], call.args["alias"], call.as_of)
        )
    }


NAME = Field("name", required=True)
KEY = Field("key", required=True)
ALIAS = Field("alias", required=True)
STAGES = Field("stages", Kind.STRINGS)
_MODEL = having({"registered_model": ref("RegisteredModel")})
VERSION = having({"model_version": ref("ModelVersion")})
_VERSIONS = having({}, {"model_versions": listed(ref("ModelVersion"))})
_LATEST = "Of a registered model the version of the largest number in each of these stages, or in each stage."
# Its log may be of a level that has no registry.
UNLEVELLED = (501,)

OPERATIONS = (
    Operation(
        "POST",
        "registered-models/create",
        _create,
        (NAME, Field("tags", Kind.OBJECTS, fields=TAG), Field("description")),
        about="Create a registered model. Its name must be new.",
        answer=_MODEL,
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "registered-models/get",
        _get,
        (NAME,),
        about="A registered model by its name, with its aliases and the latest version of each stage.",
        answer=_MODEL,
        past=True,
    ),
    Operation(
        "POST",
        "registered-models/rename",
        _rename,
        (NAME, Field("new_name", required=True)),
        about="Rename a registered model; its versions, aliases and tags go with it.",
        answer=_MODEL,
        errors=UNLEVELLED,
    ),
    Operation(
        "PATCH",
        "registered-models/update",
        _update,
        (NAME, Field("description")),
        about="Give a registered model another description.",
        answer=_MODEL,
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "registered-models/delete",
        _delete,
        (NAME,),
        about="Delete a registered model with its versions, aliases and tags. What it was stays in the log.",
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "registered-models/search",
        _search,
        (
            Field("filter", default=""),
            Field("max_results", Kind.INT64, default=100, most=MOST_RESULTS),
            Field("order_by", Kind.STRINGS),
            Field("page_token"),
        ),
        about="Registered models that match a filter, a page at a time. Prompts are found only if the filter asks for them.",
        answer=page("registered_models", "RegisteredModel"),
        from_past=True,
    ),
    Operation(
        "GET",
        "registered-models/get-latest-versions",
        _latest,
        (NAME, STAGES),
        about=_LATEST,
        answer=_VERSIONS,
        past=True,
    ),
    Operation(
        "POST",
        "registered-models/get-latest-versions",
        _latest,
        (NAME, STAGES),
        about=_LATEST,
        answer=_VERSIONS,
        past=True,
    ),
    Operation(
        "POST",
        "registered-models/set-tag",
        _set_tag,
        (NAME, KEY, Field("value", default="")),
        about="Set a tag of a registered model.",
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "registered-models/delete-tag",
        _delete_tag,
        (NAME, KEY),
        about="Remove a tag of a registered model. One that is not there is no error.",
        errors=UNLEVELLED,
    ),
    Operation(
        "POST",
        "registered-models/alias",
        _set_alias,
        (NAME, ALIAS, Field("version", required=True)),
        about="Let an alias stand on a version.",
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "registered-models/alias",
        _delete_alias,
        (NAME, ALIAS),
        about="Take an alias away. One that is not there is no error.",
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "registered-models/alias",
        _get_by_alias,
        (NAME, ALIAS),
        about="The version that an alias stands on; `latest` is the one of the largest number.",
        answer=VERSION,
        past=True,
    ),
)
