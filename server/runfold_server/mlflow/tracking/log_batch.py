"""runs/log-batch: parse, validate, let the fold decide about params and tags, append metrics."""

import asyncio
from collections.abc import Coroutine
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Self

import msgspec

from runfold_schemas.events.frames import Point
from runfold_schemas.events.runs import ParamsLogged, TagsSet
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.large_json import refuse_many
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import Call, Operation
from runfold_server.http.services import Services
from runfold_server.mlflow import validation
from runfold_server.mlflow.messages import KeyValue, RunId

from .metric_points import Metric, append_points, checked_point
from .run_tags import effective_tags
from .tracking_writes import append_accepted

_NUL = b"\\u0000"
_time_of = attrgetter("timestamp")


class LogBatch(Message, frozen=True):
    """runs/log-batch. The lengths of its lists are checked before their items are parsed."""

    run_id: RunId
    metrics: Annotated[
        tuple[Metric, ...],
        Rule(most=validation.MAX_METRICS, unfit=validation.too_many("metrics", validation.MAX_METRICS)),
    ] = ()
    params: Annotated[
        tuple[KeyValue, ...],
        Rule(most=validation.MAX_PARAMS, unfit=validation.too_many("params", validation.MAX_PARAMS)),
    ] = ()
    tags: Annotated[
        tuple[KeyValue, ...], Rule(most=validation.MAX_TAGS, unfit=validation.too_many("tags", validation.MAX_TAGS))
    ] = ()

    @classmethod
    def decode_plain(cls, body: bytes) -> Self | None:
        """Return a batch of metrics alone at a twentieth of the cost of parsing each field. See `Message`."""
        _check_entities(body)
        refuse_many(body)
        try:
            batch: Any = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeError):
            return None
        if _NUL in body:
            return None
        return cls(batch.run_id, batch.metrics)


class _PlainMetric(Metric, frozen=True, forbid_unknown_fields=True, gc=False):
    """A metric that no field parser would read otherwise: all types are exact, and nothing is unknown."""

    key: Annotated[str, msgspec.Meta(min_length=1)]
    value: float
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    step: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] = 0


class _PlainBatch(msgspec.Struct, forbid_unknown_fields=True):
    """A body of metrics alone, as MLflow's client sends it: with the run's id under both of its names."""

    run_id: Annotated[str, msgspec.Meta(min_length=1)]
    metrics: Annotated[tuple[_PlainMetric, ...], msgspec.Meta(min_length=1, max_length=validation.MAX_METRICS)]
    run_uuid: str | None = None
    params: Annotated[list[Any], msgspec.Meta(max_length=0)] = []
    tags: Annotated[list[Any], msgspec.Meta(max_length=0)] = []


_decoder = msgspec.json.Decoder(_PlainBatch)


def _check_entities(body: bytes) -> None:
    """Reject a batch of far too many entities before it is decoded, which would hold up all other requests."""
    # In JSON these bytes are always a whole text, since quotation marks within one are escaped. An entity has at most
    # two.
    entities = body.count(b'"key"') // 2
    if entities > validation.MAX_ENTITIES:
        what = "metrics, params, and tags"
        raise InvalidParameter(validation.too_many(what, validation.MAX_ENTITIES, f"more than {entities}"))


async def _log_batch(services: Services, call: Call[LogBatch]) -> dict[str, Any]:
    """Check all before anything is appended. Params are decided first, so that a conflict changes nothing."""
    request, writes, origin = call.request, services.writes, call.origin
    run_id = validation.check_run_id(request.run_id)
    points = checked_points(request.metrics)
    params = [validation.check_param(p.key, p.value, f"params[{i}].") for i, p in enumerate(request.params)]
    tags = [validation.check_tag(t.key, t.value, f"tags[{i}].") for i, t in enumerate(request.tags)]
    validation.check_batch(len(points), len(params), len(tags))
    validation.check_unique_params(key for key, _ in params)
    only_metrics = not params and not tags
    await services.caches.runs.active(run_id, without_postgres=only_metrics)
    if params:
        await append_accepted(writes, ParamsLogged(run_id=run_id, params=dict(params)), origin)
    effective = effective_tags(dict(tags))
    if not effective:
        await append_points(writes, run_id, points, origin)
        return {}
    tagging = append_accepted(writes, TagsSet(run_id=run_id, tags=effective), origin)
    await _both(append_points(writes, run_id, points, origin), tagging)
    return {}


def checked_points(metrics: tuple[Metric, ...]) -> list[Point]:
    """Return the metrics as points; InvalidParameter for the first one that MLflow rejects."""
    # A batch has few keys, and its points are checked one by one only to name the first that is wrong.
    if min(map(_time_of, metrics), default=0) >= 0 and all(map(_is_key, {metric.key for metric in metrics})):
        # Inline, because a call for each of 1000 points costs more than all checks.
        return [
            Point(
                m.key,
                m.value,
                m.step,
                m.timestamp,
                m.model_id or None,
                m.dataset_name or None,
                m.dataset_digest or None,
            )
            for m in metrics
        ]
    return [checked_point(metric, f"metrics[{i}].") for i, metric in enumerate(metrics)]


@lru_cache(maxsize=50_000)
def _is_key(key: str) -> bool:
    try:
        validation.check_name(key, "name")
    except InvalidParameter:
        return False
    return len(key) <= validation.MAX_KEY


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


OPERATION = Operation(
    "POST",
    "runs/log-batch",
    LogBatch,
    _log_batch,
    about="Log metrics, params and tags together: at most 1000 entities, of them 100 params and 100 tags. A rejected "
    "batch changes nothing.",
)
