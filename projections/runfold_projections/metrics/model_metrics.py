"""Metrics of logged models: of every (model, run, key, data set), the latest value and the extremes of the points that name the model.

A join of its points, so frames may come in any order, cut anywhere, and twice. No rewind takes from it: the model was kept as it was
when it was measured, whatever its training did later.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from runfold_schemas.events.frames import Frame


class Measured(NamedTuple):
    """Who measured what of which model. An absent data set has empty names."""

    model_id: str
    run_id: str
    key: str
    dataset_name: str
    dataset_digest: str

    @property
    def dataset(self) -> bytes:
        """Stands for the data set where its names are too long for an index; empty if there is none."""
        return mark_of(self.dataset_name, self.dataset_digest)


def mark_of(dataset_name: str, dataset_digest: str) -> bytes:
    """Stands for a data set; empty if both names are."""
    if not dataset_name and not dataset_digest:
        return b""
    return blake2b(f"{dataset_name}\0{dataset_digest}".encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class ModelMetric:
    """The value with the largest (time, step, value), NaN above all numbers; and the extremes (None if all values are NaN)."""

    time_ms: int
    step: int
    value: float
    least: float | None
    most: float | None

    def order(self) -> tuple[int, int, bool, float]:
        """A total order of latest values: as MLflow's store, and Postgres, have it."""
        nan = math.isnan(self.value)
        return (self.time_ms, self.step, nan, 0.0 if nan else self.value)


class ModelMetrics:
    """What some frames tell of logged models."""

    def __init__(self) -> None:
        self.found: dict[Measured, ModelMetric] = {}

    def add(self, run_id: str, frame: Frame) -> None:
        """Join the points of a frame, if it names a model."""
        if not frame.model_id or not frame.rows:
            return
        context = (frame.dataset_name or "", frame.dataset_digest or "")
        for key, metric in _metrics(frame):
            measured = Measured(frame.model_id, run_id, key, *context)
            known = self.found.get(measured)
            self.found[measured] = metric if known is None else join(known, metric)

    def drain(self) -> dict[Measured, ModelMetric]:
        """What was joined since the last call."""
        found, self.found = self.found, {}
        return found


def join(one: ModelMetric, other: ModelMetric) -> ModelMetric:
    """Of the points of both."""
    latest = max(one, other, key=ModelMetric.order)
    leasts = [bound for bound in (one.least, other.least) if bound is not None]
    mosts = [bound for bound in (one.most, other.most) if bound is not None]
    return ModelMetric(latest.time_ms, latest.step, latest.value, min(leasts, default=None), max(mosts, default=None))


class FrameSummary(NamedTuple):
    """What the rows of a frame tell of its keys: arrays in their order. All keys have the latest step and time; NaN: no number."""

    time_ms: int
    step: int
    latest: Any
    least: Any
    most: Any


def summarize_frame(frame: Frame) -> FrameSummary:
    """Of a frame with rows."""
    steps: Any = np.frombuffer(frame.steps, np.int64)
    times: Any = np.frombuffer(frame.times, np.int64)
    # Adding 0.0 turns -0.0 into 0.0: neither must win over the other by coming first.
    values: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys)) + 0.0
    newest = times == times.max()
    newest &= steps == steps[newest].max()
    at = int(np.flatnonzero(newest)[0])
    latest = np.maximum.reduce(values[newest], axis=0)
    return FrameSummary(
        int(times[at]), int(steps[at]), latest, np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    )


def _metrics(frame: Frame) -> Iterator[tuple[str, ModelMetric]]:
    time_ms, step, latest, least, most = summarize_frame(frame)
    for key, value, low, high in zip(frame.keys, latest.tolist(), least.tolist(), most.tolist(), strict=True):
        yield key, ModelMetric(time_ms, step, value, _number(low), _number(high))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
