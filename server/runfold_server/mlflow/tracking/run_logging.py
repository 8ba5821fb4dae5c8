"""runs/log-metric, log-parameter, set-tag, delete-tag, log-inputs: what a training writes beside batches.

Params and tags wait for the fold's decision. Metrics never wait for their fold: they are acknowledged on append, after
the run was found in committed rows.
"""

from typing import Any

from runfold_schemas.events.runs import DatasetInput, InputsLogged, ParamsLogged, TagsDeleted, TagsSet
from runfold_server.core.errors import InvalidParameter, NotFound
from runfold_server.http.messages import Message
from runfold_server.http.operation import Call, Operation
from runfold_server.http.services import Services
from runfold_server.mlflow import validation
from runfold_server.mlflow.messages import RunRequest, Tag

from .metric_points import LogMetric, append_points, as_point
from .run_tags import effective_tags
from .tracking_writes import append_accepted

Json = dict[str, Any]


class LogParam(RunRequest, frozen=True):
    """runs/log-parameter."""

    key: str
    value: str = ""


class SetTag(RunRequest, frozen=True):
    """runs/set-tag."""

    key: str
    value: str = ""


class DeleteTag(RunRequest, frozen=True):
    """runs/delete-tag."""

    key: str


class Dataset(Message, frozen=True):
    """A dataset that a run uses."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetUse(Message, frozen=True, kw_only=True):
    """A dataset with the tags of its use."""

    tags: tuple[Tag, ...] = ()
    dataset: Dataset


class ModelUse(Message, frozen=True):
    """A logged model that a run uses."""

    model_id: str


class LogInputs(RunRequest, frozen=True):
    """runs/log-inputs."""

    datasets: tuple[DatasetUse, ...] = ()
    models: tuple[ModelUse, ...] = ()


async def _log_metric(services: Services, call: Call[LogMetric]) -> Json:
    request = call.request
    validation.check_metric(request.key, request.value, request.timestamp)
    await services.caches.runs.active(request.run_id, without_postgres=True)
    await append_points(services.writes, request.run_id, [as_point(request)], call.origin)
    return {}


async def _log_param(services: Services, call: Call[LogParam]) -> Json:
    run_id = call.request.run_id
    key, value = validation.check_param(call.request.key, call.request.value)
    await services.caches.runs.active(run_id)
    event = ParamsLogged(run_id=run_id, params={key: value})
    await append_accepted(services.writes, event, call.origin, single_param=True)
    return {}


async def _set_tag(services: Services, call: Call[SetTag]) -> Json:
    run_id = call.request.run_id
    key, value = validation.check_tag(call.request.key, call.request.value)
    await services.caches.runs.active(run_id)
    tags = effective_tags({key: value})
    if tags:
        await append_accepted(services.writes, TagsSet(run_id=run_id, tags=tags), call.origin)
    return {}


async def _delete_tag(services: Services, call: Call[DeleteTag]) -> Json:
    run_id, key = call.request.run_id, call.request.key
    await services.caches.runs.active(run_id)
    if len(key) > validation.MAX_KEY:
        raise NotFound(f"No tag with name: {key} in run with id {run_id}")
    await append_accepted(services.writes, TagsDeleted(run_id=run_id, keys=[key]), call.origin)
    return {}


async def _log_inputs(services: Services, call: Call[LogInputs]) -> Json:
    run_id = validation.check_run_id(call.request.run_id)
    datasets: dict[tuple[str, str], DatasetInput] = {}
    for i, use in enumerate(call.request.datasets):
        dataset = _dataset_input(use, i)
        datasets.setdefault((dataset.name, dataset.digest), dataset)
    models = [model.model_id for model in call.request.models]
    await services.caches.runs.active(run_id)
    if datasets or models:
        event = InputsLogged(run_id=run_id, datasets=list(datasets.values()), models=models)
        await append_accepted(services.writes, event, call.origin)
    return {}


def _dataset_input(use: DatasetUse, index: int) -> DatasetInput:
    dataset = use.dataset
    for name, value, most in (
        ("name", dataset.name, validation.MAX_DATASET_NAME),
        ("digest", dataset.digest, validation.MAX_DATASET_DIGEST),
        ("source", dataset.source, validation.MAX_DATASET_SOURCE),
        ("schema", dataset.schema, validation.MAX_DATASET_SCHEMA),
        ("profile", dataset.profile, validation.MAX_DATASET_PROFILE),
    ):
        validation.check_length(name, most, value or "")
    tags = {}
    for tag in use.tags:
        validation.check_length("key", validation.MAX_INPUT_TAG_KEY, tag.key)
        if not tag.key:
            raise InvalidParameter(
                f"'datasets[{index}].tags.key' must have 1 to {validation.MAX_INPUT_TAG_KEY} characters"
            )
        tags[tag.key] = validation.check_length("value", validation.MAX_INPUT_TAG_VALUE, tag.value)
    return DatasetInput.model_validate(
        {
            "name": dataset.name,
            "digest": dataset.digest,
            "source_type": dataset.source_type,
            "source": dataset.source,
            "schema": dataset.schema,
            "profile": dataset.profile,
            "tags": tags,
        }
    )


OPERATIONS = (
    Operation(
        "POST",
        "runs/log-metric",
        LogMetric,
        _log_metric,
        about="Log one point of a metric. The same point again counts once.",
    ),
    Operation(
        "POST",
        "runs/log-parameter",
        LogParam,
        _log_param,
        about="Log a param. The same value again is fine, another one is rejected.",
    ),
    Operation("POST", "runs/set-tag", SetTag, _set_tag, about="Set a tag of a run. `mlflow.runName` renames it."),
    Operation("POST", "runs/delete-tag", DeleteTag, _delete_tag, about="Remove a tag of a run."),
    Operation("POST", "runs/log-inputs", LogInputs, _log_inputs, about="Log datasets and models that a run uses."),
)
