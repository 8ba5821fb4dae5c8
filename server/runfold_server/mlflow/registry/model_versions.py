"""model-versions/*. The fold decides about numbers, stages and deletion; the source is resolved before the append."""

from typing import Annotated, Any

from runfold_log.writer import Appended
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import model_version_at, newest_version_at
from runfold_projections.registry.version_queries import (
    ModelVersion,
    get_model_version,
    model_version_created_at,
    search_model_versions,
)
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.registered_models import (
    ModelVersionCreated,
    ModelVersionDeleted,
    ModelVersionDescribed,
    ModelVersionStaged,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    VersionFact,
)
from runfold_server.core.errors import Internal, InvalidParameter
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import offset_tokens
from runfold_server.mlflow.answers.registry import encode_model_version
from runfold_server.mlflow.answers.values import encode_page
from runfold_server.mlflow.messages import Tag
from runfold_server.openapi_schemas.common import TEXT, having, page
from runfold_server.reads.reader import Query
from runfold_server.writes.feature_levels import require_level

from . import registry_validation as limits
from .registered_models import UNLEVELLED, VERSION, ModelRequest
from .registry_errors import no_version
from .registry_writes import append_and_query, append_and_wait, vector_after
from .version_search import REGISTRY, canonical_stage, version_of
from .version_sources import find_source

Json = dict[str, Any]
MOST_RESULTS = 200_000
_ACTIVE = ("Staging", "Production")


class CreateVersion(ModelRequest, frozen=True):
    """model-versions/create."""

    source: str
    run_id: str | None = None
    tags: tuple[Tag, ...] = ()
    run_link: str = ""
    description: str = ""
    model_id: str | None = None


class VersionRequest(ModelRequest, frozen=True):
    """A request about one version of a registered model."""

    version: str


class UpdateVersion(VersionRequest, frozen=True):
    """model-versions/update."""

    description: str | None = None


class TransitionStage(VersionRequest, frozen=True):
    """model-versions/transition-stage."""

    stage: str
    archive_existing_versions: bool = False


class GetDownloadUri(Message, frozen=True):
    """model-versions/get-download-uri."""

    name: str | None = None
    version: str | None = None


class SearchVersions(Message, frozen=True):
    """model-versions/search."""

    filter: str = ""
    max_results: Annotated[int, Rule(most=MOST_RESULTS)] = MOST_RESULTS
    order_by: tuple[str, ...] = ()
    page_token: str | None = None


class SetVersionTag(VersionRequest, frozen=True):
    """model-versions/set-tag."""

    key: str
    value: str = ""


class DeleteVersionTag(VersionRequest, frozen=True):
    """model-versions/delete-tag."""

    key: str


async def _create(services: Services, call: Call[CreateVersion]) -> Json:
    request = call.request
    tags = dict(limits.check_tag(tag.key, tag.value) for tag in request.tags)
    prompt = tags.get("mlflow.prompt.is_prompt", "false").lower() == "true"
    await require_level(services.log, ModelVersionCreated)
    found = await find_source(
        services, request.source, request.run_id, request.model_id, prompt=prompt, run_link=request.run_link
    )
    event = ModelVersionCreated(
        name=limits.check_model_name(request.name),
        source=found.source,
        storage_location=found.storage_location,
        # As in MLflow, a missing value is an empty text.
        run_id=found.run_id or "",
        run_link=request.run_link,
        model_id=found.model_id or None,
        description=request.description,
        tags=tags,
    )

    def query_after(done: Appended) -> Query[ModelVersion | None]:
        async def query(connection: Connection) -> ModelVersion | None:
            found = await model_version_created_at(connection, done.position.offset)
            # Deleted since: answer with the version as it was created.
            return found or await newest_version_at(connection, DEFAULT_WORKSPACE, event.name, vector_after(done))

        return query

    return _answer(await append_and_query(services, call.origin, event, query_after))


def _answer(version: ModelVersion | None) -> Json:
    if version is None:
        raise Internal("The write was accepted, but its version is not in the read models")
    return {"model_version": encode_model_version(version)}


def _named_version(request: VersionRequest) -> tuple[str, int]:
    """Return the name and number of a version. NotFound for a number that no version can have."""
    name = limits.check_model_name(request.name)
    number = limits.version_number(request.version)
    if not 0 < number < 2**31:
        raise no_version(name, request.version)
    return name, number


async def _change(services: Services, call: Call[Any], event: VersionFact) -> Json:
    """Append, wait for the fold, and answer with the version as it is afterwards."""
    name, number = event.name, event.version

    def query_after(done: Appended) -> Query[ModelVersion | None]:
        async def query(connection: Connection) -> ModelVersion | None:
            found = await get_model_version(connection, DEFAULT_WORKSPACE, name, number)
            # Deleted or renamed since: answer with the version as the event left it.
            return found or await model_version_at(connection, DEFAULT_WORKSPACE, name, number, vector_after(done))

        return query

    return _answer(await append_and_query(services, call.origin, event, query_after))


async def _get(services: Services, call: Call[VersionRequest]) -> Json:
    return {
        "model_version": encode_model_version(
            await version_of(services, call.request.name, call.request.version, call.as_of)
        )
    }


async def _update(services: Services, call: Call[UpdateVersion]) -> Json:
    name, number = _named_version(call.request)
    return await _change(
        services, call, ModelVersionDescribed(name=name, version=number, description=call.request.description)
    )


async def _transition(services: Services, call: Call[TransitionStage]) -> Json:
    stage, archive = canonical_stage(call.request.stage), call.request.archive_existing_versions
    if archive and stage not in _ACTIVE:
        raise InvalidParameter(
            f"Model version transition cannot archive existing model versions because '{call.request.stage}' is not "
            f"an Active stage. Valid stages are {list(_ACTIVE)}"
        )
    name, number = _named_version(call.request)
    event = ModelVersionStaged.model_validate(
        {"name": name, "version": number, "stage": stage, "archive_existing": archive}
    )
    return await _change(services, call, event)


async def _delete(services: Services, call: Call[VersionRequest]) -> Json:
    name, number = _named_version(call.request)
    await append_and_wait(services, call.origin, ModelVersionDeleted(name=name, version=number))
    return {}


async def _download_uri(services: Services, call: Call[GetDownloadUri]) -> Json:
    version = await version_of(services, call.request.name or "", call.request.version or "", call.as_of)
    return {"artifact_uri": version.storage_location or version.source}


async def _search(services: Services, call: Call[SearchVersions]) -> Json:
    limit, offset = call.request.max_results, offset_tokens.read_token(call.request.page_token)
    if limit < 1:
        raise InvalidParameter(f"Invalid value for max_results. It must be a positive integer, but got {limit}")

    async def query(connection: Connection) -> list[ModelVersion]:
        return await search_model_versions(
            connection, DEFAULT_WORKSPACE, call.request.filter, call.request.order_by, limit + 1, offset
        )

    rows = (await services.reads.reader.read(REGISTRY, query)).value
    token = offset_tokens.make_token(offset + limit) if len(rows) > limit else None
    found = [encode_model_version(row) for row in rows[:limit]]
    return encode_page("model_versions", found, token)


async def _set_tag(services: Services, call: Call[SetVersionTag]) -> Json:
    name, number = _named_version(call.request)
    key, value = limits.check_tag(call.request.key, call.request.value)
    await append_and_wait(services, call.origin, ModelVersionTagsSet(name=name, version=number, tags={key: value}))
    return {}


async def _delete_tag(services: Services, call: Call[DeleteVersionTag]) -> Json:
    name, number = _named_version(call.request)
    key = limits.check_tag_key(call.request.key)
    await append_and_wait(services, call.origin, ModelVersionTagsDeleted(name=name, version=number, keys=[key]))
    return {}


OPERATIONS = (
    Operation(
        "POST",
        "model-versions/create",
        CreateVersion,
        _create,
        about="Create the next version of a registered model. A number is never used twice.",
        answer=VERSION,
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "model-versions/get",
        VersionRequest,
        _get,
        about="A version of a registered model.",
        answer=VERSION,
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "PATCH",
        "model-versions/update",
        UpdateVersion,
        _update,
        about="Set the description of a version, or remove it.",
        answer=VERSION,
        errors=UNLEVELLED,
    ),
    Operation(
        "POST",
        "model-versions/transition-stage",
        TransitionStage,
        _transition,
        about="Move a version to a stage.",
        answer=VERSION,
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "model-versions/delete",
        VersionRequest,
        _delete,
        about="Delete a version with its tags and aliases. Its number is not used again.",
        errors=UNLEVELLED,
    ),
    Operation(
        "GET",
        "model-versions/get-download-uri",
        GetDownloadUri,
        _download_uri,
        about="Address of the files of a version.",
        answer=having({"artifact_uri": TEXT}),
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "GET",
        "model-versions/search",
        SearchVersions,
        _search,
        about="Versions that match a filter, a page at a time. Versions of prompts are found only if the filter "
        "names them.",
        answer=page("model_versions", "ModelVersion"),
        time_travel=TimeTravel.SNAPSHOT,
    ),
    Operation(
        "POST",
        "model-versions/set-tag",
        SetVersionTag,
        _set_tag,
        about="Set a tag of a version.",
        errors=UNLEVELLED,
    ),
    Operation(
        "DELETE",
        "model-versions/delete-tag",
        DeleteVersionTag,
        _delete_tag,
        about="Remove a tag of a version. A missing tag is no error.",
        errors=UNLEVELLED,
    ),
)
