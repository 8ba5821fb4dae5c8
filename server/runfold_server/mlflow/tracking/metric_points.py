"""Points of metrics as MLflow's requests have them: declared, checked, and appended as events."""

from collections.abc import Iterator, Sequence

from runfold_schemas.events.frames import MAX_FRAME_BYTES, Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_server.http.messages import Message
from runfold_server.mlflow import validation
from runfold_server.mlflow.messages import RunId
from runfold_server.writes.writes import WriteOrigin, Writes

_POINT_BYTES = 64
"""Most bytes of a point in a frame beside its key: a step, a time, a value, and their share of the arrays."""
_MOST_BYTES_OF_CHARACTER = 4
"""UTF-8's."""


class Metric(Message, frozen=True):
    """One point of a metric."""

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(Message, frozen=True):
    """runs/log-metric."""

    run_id: RunId
    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


def checked_point(metric: Metric, path: str = "") -> Point:
    """Return the metric as a point; InvalidParameter, in MLflow's words, for a key or time that it rejects."""
    validation.check_metric(metric.key, metric.value, metric.timestamp, path)
    return as_point(metric)


def as_point(metric: Metric | LogMetric) -> Point:
    """Return the metric as a point."""
    return Point(
        metric.key,
        metric.value,
        metric.step,
        metric.timestamp,
        metric.model_id or None,
        metric.dataset_name or None,
        metric.dataset_digest or None,
    )


async def append_points(writes: Writes, run_id: str, points: Sequence[Point], origin: WriteOrigin) -> None:
    """Append the points and return when the log has acknowledged them. Metrics never wait for their fold."""
    for event in metric_events(run_id, points):
        await writes.append(event, origin)


def metric_events(run_id: str, points: Sequence[Point]) -> Iterator[MetricsLogged]:
    """Yield the points of one request as events below the size of a frame."""
    start, size = 0, 0
    for at, point in enumerate(points):
        own = _MOST_BYTES_OF_CHARACTER * len(point.key) + _POINT_BYTES
        if size + own > MAX_FRAME_BYTES and at > start:
            yield MetricsLogged(run_id, from_points(points[start:at]))
            start, size = at, 0
        size += own
    if points:
        yield MetricsLogged(run_id, from_points(points[start:]))
