"""logged-models/* and runs/outputs. The registry's fold decides; metrics of models come from the metrics fold."""

import random
from collections.abc import Sequence
from typing import Any

from runfold.names import run_name
from runfold_projections.logged_models.as_of import logged_model_at
from runfold_projections.logged_models.queries import LoggedModel, get_logged_model
from runfold_projections.logged_models.rejections import LoggedModelRejection
from runfold_projections.postgres.connection import Connection
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.artifact_paths import append_path
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
)
from runfold_schemas.events.runs import ModelOutput, OutputsLogged
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.errors import AlreadyExists, ApiError, InvalidParameter, NotFound
from runfold_server.http.messages import Message
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import validation
from runfold_server.mlflow.answers.logged_models import STATUSES, LoggedModelStatus, encode_logged_model
from runfold_server.mlflow.messages import RunRequest, Tag
from runfold_server.mlflow.registry.version_search import error_as_of
from runfold_server.mlflow.rejection_errors import as_mlflow_error
from runfold_server.mlflow.tracking.artifact_roots import check_run, no_logged_model
from runfold_server.mlflow.tracking.experiments import experiment_id
from runfold_server.openapi_schemas.common import having, ref
from runfold_server.reads.scopes import of_topics
from runfold_server.writes.feature_levels import require_level
from runfold_server.writes.writes import RejectedWrite

Json = dict[str, Any]
MAX_MODEL_NAME = 500
_BAD_CHARACTERS = ("/", ":", ".", "%", '"', "'")
_random = random.SystemRandom()
_STATUS = {shown: status for status, shown in STATUSES.items()}
MODEL = of_topics(Topic.REGISTRY, Topic.METRICS)
"""Partitions that an answer with a model depends on: any run may have measured it."""


class CreateLoggedModel(Message, frozen=True):
    """logged-models, by POST."""

    experiment_id: str
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class LoggedModelRequest(Message, frozen=True):
    """A request about one logged model."""

    model_id: str


class GetLoggedModel(LoggedModelRequest, frozen=True):
    """logged-models/{model_id}, by GET."""

    allow_deleted: str = "false"


class FinalizeLoggedModel(LoggedModelRequest, frozen=True):
    """logged-models/{model_id}, by PATCH."""

    status: LoggedModelStatus


class LogModelParams(LoggedModelRequest, frozen=True):
    """logged-models/{model_id}/params."""

    params: tuple[Tag, ...] = ()


class SetLoggedModelTags(LoggedModelRequest, frozen=True):
    """logged-models/{model_id}/tags."""

    tags: tuple[Tag, ...] = ()


class DeleteLoggedModelTag(LoggedModelRequest, frozen=True):
    """logged-models/{model_id}/tags/{tag_key}."""

    tag_key: str


class Output(Message, frozen=True):
    """A logged model that a run made."""

    model_id: str
    step: int = 0


class LogOutputs(RunRequest, frozen=True):
    """runs/outputs."""

    models: tuple[Output, ...]


async def find_logged_model(
    services: Services, model_id: str, *, deleted: bool = False, as_of: Vector | None = None
) -> LoggedModel:
    """Return the model with its metrics, now by a strong read, or at `as_of`.

    NotFound if it does not exist, or is deleted and `deleted` is not set.
    """

    async def query(connection: Connection) -> LoggedModel | None:
        if as_of is not None:
            return await logged_model_at(connection, DEFAULT_WORKSPACE, model_id, as_of)
        return await get_logged_model(connection, DEFAULT_WORKSPACE, model_id)

    shown = await services.reads.reader.read(MODEL, query, as_of=as_of)
    if shown.value is None or (shown.value.lifecycle_stage != "active" and not deleted):
        raise error_as_of(no_logged_model(model_id), as_of)
    return shown.value


async def _create(services: Services, call: Call[CreateLoggedModel]) -> Json:
    request = call.request
    name = _name(request.name)
    params, tags = _params(request.params), _tags(request.tags)
    await require_level(services.log, LoggedModelCreated)
    experiment = await services.caches.experiments.active(experiment_id(request.experiment_id))
    await check_run(services, request.source_run_id)
    model_id = services.ids.model_id()
    event = LoggedModelCreated(
        model_id=model_id,
        experiment_id=experiment.experiment_id,
        name=name,
        artifact_uri=append_path(experiment.artifact_location, f"models/{model_id}/artifacts"),
        model_type=request.model_type or None,
        source_run_id=request.source_run_id or None,
        params=params,
        tags=tags,
    )
    # The id is fresh, so no fold can reject the event: it is acknowledged on append.
    time_ms = (await services.writes.append(event, call.origin)).time_ms
    row = LoggedModel(
        model_id=model_id,
        experiment_id=event.experiment_id,
        name=name,
        artifact_uri=event.artifact_uri,
        model_type=event.model_type,
        source_run_id=event.source_run_id,
        status="PENDING",
        lifecycle_stage="active",
        created_ms=time_ms,
        updated_ms=time_ms,
        params=params,
        tags=tags,
    )
    return {"model": encode_logged_model(row)}


def _name(name: str) -> str:
    if any(character in name for character in _BAD_CHARACTERS):
        raise InvalidParameter(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string and cannot contain the "
            f"following characters: {_BAD_CHARACTERS}"
        )
    return validation.check_length("name", MAX_MODEL_NAME, name or run_name(_random))


def _params(given: Sequence[Tag]) -> dict[str, str]:
    validation.check_unique_params(one.key for one in given)
    return {_key(one, "params"): one.value for one in given}


def _tags(given: Sequence[Tag]) -> dict[str, str]:
    return {_key(one, "tags"): one.value for one in given}


def _key(one: Tag, of: str) -> str:
    key = one.key
    if not key:
        raise InvalidParameter(f"Missing value for required parameter '{of}.key'.")
    return validation.check_length("key", validation.MAX_KEY, key)


async def _get(services: Services, call: Call[GetLoggedModel]) -> Json:
    deleted = call.request.allow_deleted.lower() == "true"
    return {
        "model": encode_logged_model(
            await find_logged_model(services, call.request.model_id, deleted=deleted, as_of=call.as_of)
        )
    }


async def _finalize(services: Services, call: Call[FinalizeLoggedModel]) -> Json:
    model_id = call.request.model_id
    await _append_and_wait(
        services, call, LoggedModelFinalized(model_id=_id(model_id), status=_STATUS[call.request.status])
    )
    return {"model": encode_logged_model(await find_logged_model(services, model_id, deleted=True))}


async def _delete(services: Services, call: Call[LoggedModelRequest]) -> Json:
    return await _append_and_wait(services, call, LoggedModelDeleted(model_id=_id(call.request.model_id)))


async def _log_params(services: Services, call: Call[LogModelParams]) -> Json:
    model_id, params = _id(call.request.model_id), _params(call.request.params)
    return await _append_and_wait(services, call, LoggedModelParamsLogged(model_id=model_id, params=params))


async def _set_tags(services: Services, call: Call[SetLoggedModelTags]) -> Json:
    model_id, tags = _id(call.request.model_id), _tags(call.request.tags)
    return await _append_and_wait(services, call, LoggedModelTagsSet(model_id=model_id, tags=tags))


async def _delete_tag(services: Services, call: Call[DeleteLoggedModelTag]) -> Json:
    model_id, key = _id(call.request.model_id), call.request.tag_key
    if len(key) > validation.MAX_KEY:
        await find_logged_model(services, model_id, deleted=True)
        raise NotFound(f"No tag with key {key!r} found for model with ID {model_id!r}.")
    return await _append_and_wait(services, call, LoggedModelTagsDeleted(model_id=model_id, keys=[key]))


async def _log_outputs(services: Services, call: Call[LogOutputs]) -> Json:
    run_id = validation.check_run_id(call.request.run_id)
    models = [ModelOutput(model_id=one.model_id, step=one.step) for one in call.request.models]
    await require_level(services.log, OutputsLogged)
    await services.caches.runs.active(run_id)
    return await _append_and_wait(services, call, OutputsLogged(run_id=run_id, models=models)) if models else {}


def _id(model_id: str) -> str:
    # An id that no event can contain was never created.
    if not validation.is_id(model_id):
        raise no_logged_model(model_id)
    return model_id


async def _append_and_wait(services: Services, call: Call[Any], event: Event) -> Json:
    await require_level(services.log, type(event))
    try:
        await services.writes.append_and_wait(event, call.origin)
    except RejectedWrite as refused:
        raise _as_logged_model_error(refused) from None
    return {}


_ERRORS: dict[str, type[ApiError]] = {
    LoggedModelRejection.NOT_FOUND: NotFound,
    LoggedModelRejection.TAG_NOT_FOUND: NotFound,
    LoggedModelRejection.EXISTS: AlreadyExists,
    LoggedModelRejection.PARAM_CHANGED: InvalidParameter,
}


def _as_logged_model_error(refused: RejectedWrite) -> ApiError:
    # The fold's messages about logged models are MLflow's.
    error = _ERRORS.get(refused.rejection.code)
    return as_mlflow_error(refused) if error is None else error(refused.rejection.message)


_ANSWER = having({"model": ref("LoggedModel")})
_LATER = (501,)

OPERATIONS = (
    Operation(
        "POST",
        "logged-models",
        CreateLoggedModel,
        _create,
        about="Create a logged model. Its files go below the returned `artifact_uri`. Without a name it gets one.",
        answer=_ANSWER,
        errors=_LATER,
    ),
    Operation(
        "GET",
        "logged-models/{model_id}",
        GetLoggedModel,
        _get,
        about="A logged model with its params, tags and metrics.",
        answer=_ANSWER,
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "PATCH",
        "logged-models/{model_id}",
        FinalizeLoggedModel,
        _finalize,
        about="Set the outcome of the upload of a logged model's files.",
        answer=_ANSWER,
        errors=_LATER,
    ),
    Operation(
        "DELETE",
        "logged-models/{model_id}",
        LoggedModelRequest,
        _delete,
        about="Delete a logged model. Its files stay.",
        errors=_LATER,
    ),
    Operation(
        "POST",
        "logged-models/{model_id}/params",
        LogModelParams,
        _log_params,
        about="Log params of a logged model. The same value again is fine, another one is rejected.",
        errors=_LATER,
    ),
    Operation(
        "PATCH",
        "logged-models/{model_id}/tags",
        SetLoggedModelTags,
        _set_tags,
        about="Set tags of a logged model.",
        errors=_LATER,
    ),
    Operation(
        "DELETE",
        "logged-models/{model_id}/tags/{tag_key:path}",
        DeleteLoggedModelTag,
        _delete_tag,
        about="Remove a tag of a logged model.",
        errors=_LATER,
    ),
    Operation(
        "POST",
        "runs/outputs",
        LogOutputs,
        _log_outputs,
        about="Log models that a run made. The same model of the same step counts once.",
        errors=_LATER,
    ),
)
