"""Points of metrics as MLflow's JSON. Whole numbers are numbers, not strings."""

from itertools import repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from runfold_projections.runs.queries import LatestMetric
from runfold_projections.series.latest import MetricHistory

from .values import encode_number

_POINTS_PER_PIECE = 10_000


class LatestAnswer(msgspec.Struct, gc=False, omit_defaults=True):
    """MLflow's `Metric`, as the latest value of its key."""

    key: str
    value: float | str
    timestamp: int
    step: int
    dataset_name: str | None = None
    dataset_digest: str | None = None
    model_id: str | None = None


class PointAnswer(msgspec.Struct, gc=False):
    """MLflow's `Metric` as a point of a history. A struct, because a history has hundreds of thousands."""

    key: str
    value: float | str
    timestamp: int
    step: int


class RunPointAnswer(msgspec.Struct, gc=False):
    """MLflow's `MetricWithRunId`."""

    key: str
    value: float | str
    timestamp: int
    step: int
    run_id: str


def encode_latest_metric(row: LatestMetric) -> LatestAnswer:
    """Return the latest value of a key."""
    key, value, step, time_ms, model_id, dataset_name, dataset_digest = row
    return LatestAnswer(
        key, encode_number(value), time_ms, step, dataset_name or None, dataset_digest or None, model_id or None
    )


def encode_history(key: str, rows: MetricHistory, start: int, stop: int) -> list[PointAnswer]:
    """Return the points of one key from `start` up to `stop`, exclusive."""
    found: list[PointAnswer] = []
    # In pieces, because the loop below holds the interpreter.
    for at in range(start, min(stop, len(rows)), _POINTS_PER_PIECE):
        piece = slice(at, min(stop, at + _POINTS_PER_PIECE))
        values = rows.values[piece]
        shown = values.tolist() if np.isfinite(values).all() else map(encode_number, values.tolist())
        found += map(PointAnswer, repeat(key), shown, rows.times[piece].tolist(), rows.steps[piece].tolist())
    return found


def encode_run_points(
    run_id: str, key: str, rows: MetricHistory, picked: slice | NDArray[np.intp]
) -> list[RunPointAnswer]:
    """Return the picked points of one run's history, in the order picked."""
    columns = rows.values[picked].tolist(), rows.times[picked].tolist(), rows.steps[picked].tolist()
    return [
        RunPointAnswer(key, encode_number(value), time_ms, step, run_id)
        for value, time_ms, step in zip(*columns, strict=True)
    ]
