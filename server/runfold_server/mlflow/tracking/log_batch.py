"""Metrics of a request as points: checked one by one, or all at once where a request has the form that clients send."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from runfold_schemas.events.frames import MAX_FRAME_BYTES, Point, from_points
from runfold_schemas.events.runs import MetricsLogged
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.large_json import refuse_many
from runfold_server.http.request_fields import Args
from runfold_server.mlflow import validation

_NUL = b"\\u0000"


class _Metric(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    key: str
    value: float
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    step: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    run_id: Annotated[str, msgspec.Meta(min_length=1)]
    metrics: Annotated[list[_Metric], msgspec.Meta(min_length=1, max_length=validation.MAX_METRICS)]
    run_uuid: str | None = None
    params: Annotated[list[Any], msgspec.Meta(max_length=0)] = []
    tags: Annotated[list[Any], msgspec.Meta(max_length=0)] = []


_decoder = msgspec.json.Decoder(_Batch)


def read_metrics(body: bytes) -> Args | None:
    """The arguments of a log-batch of metrics only, with all metrics as `points`; None for all that is not plainly right.

    The fields' own parser takes more forms and says what is wrong with a request, at twenty times the cost.
    """
    _refuse_entities(body)
    refuse_many(body)
    try:
        batch = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return None
    if _NUL in body or not all(_is_key(key) for key in {metric.key for metric in batch.metrics}):
        return None
    points = [
        Point(m.key, m.value, m.step, m.timestamp, m.model_id or None, m.dataset_name or None, m.dataset_digest or None)
        for m in batch.metrics
    ]
    return {"run_id": batch.run_id, "points": points, "metrics": [], "params": [], "tags": []}


def _refuse_entities(body: bytes) -> None:
    """Refuse a batch of far too many entities before it is decoded, which would hold up everybody else."""
    # In JSON these bytes are always a whole text: within one, its quotation marks are escaped. An entity has at most two of them.
    entities = body.count(b'"key"') // 2
    if entities > validation.MAX_ENTITIES:
        what = "metrics, params, and tags"
        raise InvalidParameter(validation.too_many(what, validation.MAX_ENTITIES, f"more than {entities}"))


@lru_cache(maxsize=50_000)
def _is_key(key: str) -> bool:
    try:
        validation.check_name(key, "name")
    except InvalidParameter:
        return False
    return 0 < len(key) <= validation.MAX_KEY


def checked_points(metrics: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The metrics of a parsed request; InvalidParameter for the first that MLflow refuses."""
    for i, metric in enumerate(metrics):
        validation.check_metric(metric, f"metrics[{i}].")
    return [as_point(metric) for metric in metrics]


def as_point(metric: Mapping[str, Any]) -> Point:
    """A parsed metric as a point."""
    return Point(
        metric["key"],
        metric["value"],
        metric["step"],
        metric["timestamp"],
        metric["model_id"] or None,
        metric["dataset_name"] or None,
        metric["dataset_digest"] or None,
    )


def metric_events(run_id: str, points: Sequence[Point]) -> Iterator[MetricsLogged]:
    """The points of one request as events below the size of a frame."""
    start, size = 0, 0
    for at, point in enumerate(points):
        own = 4 * len(point.key) + 64
        if size + own > MAX_FRAME_BYTES and at > start:
            yield MetricsLogged(run_id, from_points(points[start:at]))
            start, size = at, 0
        size += own
    if points:
        yield MetricsLogged(run_id, from_points(points[start:]))
