"""runs/log-*, set-tag, delete-tag: what a training writes.

Params and tags wait for the fold's decision; metrics never wait for their fold: they are acknowledged on append, after the
run was found in committed rows.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from runfold_schemas.events.frames import Point
from runfold_schemas.events.runs import DatasetInput, Event, InputsLogged, ParamsLogged, TagsDeleted, TagsSet
from runfold_server.core.errors import InvalidParameter, NotFound
from runfold_server.http.operation import Call, Operation
from runfold_server.http.request_fields import Field, Kind
from runfold_server.http.services import Services
from runfold_server.mlflow import validation
from runfold_server.mlflow.errors import said
from runfold_server.writes.writes import RefusedWrite

from .experiments import TAG
from .log_batch import as_point, checked_points, metric_events, read_metrics
from .runs import RUN_ID, RUN_NAME_TAG

Json = dict[str, Any]


async def _log_metric(services: Services, call: Call) -> Json:
    run_id = call.args["run_id"]
    validation.check_metric(call.args)
    await services.caches.runs.active(run_id, without_postgres=True)
    await _append_metrics(services, call, run_id, [as_point(call.args)])
    return {}


async def _append_metrics(services: Services, call: Call, run_id: str, points: Sequence[Point]) -> None:
    for event in metric_events(run_id, points):
        await services.writes.append(event, call.origin)


async def _log_param(services: Services, call: Call) -> Json:
    run_id = call.args["run_id"]
    key, value = validation.check_param(call.args["key"], call.args["value"])
    await services.caches.runs.active(run_id)
    return await _decided(services, call, ParamsLogged(run_id=run_id, params={key: value}), single_param=True)


async def _set_tag(services: Services, call: Call) -> Json:
    run_id = call.args["run_id"]
    key, value = validation.check_tag(call.args["key"], call.args["value"])
    await services.caches.runs.active(run_id)
    tags = _effective_tags({key: value})
    return await _decided(services, call, TagsSet(run_id=run_id, tags=tags)) if tags else {}


def _effective_tags(tags: dict[str, str]) -> dict[str, str]:
    # An empty run name is "not given" to MLflow, so that setting it changes nothing.
    return {key: value for key, value in tags.items() if value or key != RUN_NAME_TAG}


async def _delete_tag(services: Services, call: Call) -> Json:
    run_id, key = call.args["run_id"], call.args["key"]
    await services.caches.runs.active(run_id)
    if len(key) > validation.MAX_KEY:
        raise NotFound(f"No tag with name: {key} in run with id {run_id}")
    return await _decided(services, call, TagsDeleted(run_id=run_id, keys=[key]))


async def _log_batch(services: Services, call: Call) -> Json:
    """All is checked before anything is appended; params are decided first, so that a conflict changes nothing."""
    args = call.args
    run_id = validation.check_run_id(args["run_id"])
    points = args.get("points") or checked_points(args["metrics"])
    params = [validation.check_param(p["key"], p["value"], f"params[{i}].") for i, p in enumerate(args["params"])]
    tags = [validation.check_tag(t["key"], t["value"], f"tags[{i}].") for i, t in enumerate(args["tags"])]
    validation.check_batch(len(points), len(params), len(tags))
    validation.check_unique_params(key for key, _ in params)
    only_metrics = not params and not tags
    await services.caches.runs.active(run_id, without_postgres=only_metrics)
    if params:
        await _decided(services, call, ParamsLogged(run_id=run_id, params=dict(params)))
    effective = _effective_tags(dict(tags))
    if not effective:
        await _append_metrics(services, call, run_id, points)
        return {}
    tagging = _decided(services, call, TagsSet(run_id=run_id, tags=effective))
    await _both(_append_metrics(services, call, run_id, points), tagging)
    return {}


async def _both(*work: Coroutine[Any, Any, object]) -> None:
    # The first error is the answer; a TaskGroup would wrap it.
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except* Exception as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _log_inputs(services: Services, call: Call) -> Json:
    run_id = validation.check_run_id(call.args["run_id"])
    datasets: dict[tuple[str, str], DatasetInput] = {}
    for i, one in enumerate(call.args["datasets"]):
        dataset = _dataset(one, i)
        datasets.setdefault((dataset.name, dataset.digest), dataset)
    models = [model["model_id"] for model in call.args["models"]]
    await services.caches.runs.active(run_id)
    if not datasets and not models:
        return {}
    return await _decided(services, call, InputsLogged(run_id=run_id, datasets=list(datasets.values()), models=models))


def _dataset(one: Mapping[str, Any], index: int) -> DatasetInput:
    dataset = one["dataset"]
    for name, most in (
        ("name", validation.MAX_DATASET_NAME),
        ("digest", validation.MAX_DATASET_DIGEST),
        ("source", validation.MAX_DATASET_SOURCE),
        ("schema", validation.MAX_DATASET_SCHEMA),
        ("profile", validation.MAX_DATASET_PROFILE),
    ):
        validation.check_length(name, most, dataset[name] or "")
    tags = {}
    for tag in one["tags"]:
        validation.check_length("key", validation.MAX_INPUT_TAG_KEY, tag["key"])
        if not tag["key"]:
            raise InvalidParameter(
                f"'datasets[{index}].tags.key' must have 1 to {validation.MAX_INPUT_TAG_KEY} characters"
            )
        tags[tag["key"]] = validation.check_length("value", validation.MAX_INPUT_TAG_VALUE, tag["value"])
    return DatasetInput.model_validate(
        {
            "name": dataset["name"],
            "digest": dataset["digest"],
            "source_type": dataset["source_type"],
            "source": dataset["source"],
            "schema": dataset["schema"],
            "profile": dataset["profile"],
            "tags": tags,
        }
    )


async def _decided(services: Services, call: Call, event: Event, *, single_param: bool = False) -> Json:
    try:
        await services.writes.decided(event, call.origin)
    except RefusedWrite as refused:
        raise said(refused, single_param=single_param) from None
    return {}


_METRIC = (
    Field("key", required=True),
    Field("value", Kind.DOUBLE, required=True),
    Field("timestamp", Kind.INT64, required=True),
    Field("step", Kind.INT64, default=0),
    Field("model_id"),
    Field("dataset_name"),
    Field("dataset_digest"),
)
_KEYED = (Field("key", required=True), Field("value", default=""))
_DATASET = (
    Field("name", required=True),
    Field("digest", required=True),
    Field("source_type", default=""),
    Field("source", default=""),
    Field("schema"),
    Field("profile"),
)


def _counted(name: str, fields: tuple[Field, ...], most: int) -> Field:
    """A list whose length is checked before its items are parsed."""
    return Field(name, Kind.OBJECTS, fields=fields, most=most, unfit=validation.too_many(name, most))


OPERATIONS = (
    Operation(
        "POST",
        "runs/log-metric",
        _log_metric,
        (RUN_ID, *_METRIC),
        about="Log one point of a metric. The same point again counts once.",
    ),
    Operation(
        "POST",
        "runs/log-parameter",
        _log_param,
        (RUN_ID, *_KEYED),
        about="Log a param. The same value again is fine, another one is refused.",
    ),
    Operation(
        "POST", "runs/set-tag", _set_tag, (RUN_ID, *_KEYED), about="Set a tag of a run. `mlflow.runName` renames it."
    ),
    Operation(
        "POST", "runs/delete-tag", _delete_tag, (RUN_ID, Field("key", required=True)), about="Remove a tag of a run."
    ),
    Operation(
        "POST",
        "runs/log-batch",
        _log_batch,
        (
            RUN_ID,
            _counted("metrics", _METRIC, validation.MAX_METRICS),
            _counted("params", _KEYED, validation.MAX_PARAMS),
            _counted("tags", _KEYED, validation.MAX_TAGS),
        ),
        read_metrics,
        about="Log metrics, params and tags together: at most 1000 entities, of them 100 params and 100 tags. A refused batch changes nothing.",
    ),
    Operation(
        "POST",
        "runs/log-inputs",
        _log_inputs,
        (
            RUN_ID,
            Field(
                "datasets",
                Kind.OBJECTS,
                fields=(
                    Field("tags", Kind.OBJECTS, fields=TAG),
                    Field("dataset", Kind.OBJECT, required=True, fields=_DATASET),
                ),
            ),
            Field("models", Kind.OBJECTS, fields=(Field("model_id", required=True),)),
        ),
        about="Log data sets and models that a run uses.",
    ),
)
