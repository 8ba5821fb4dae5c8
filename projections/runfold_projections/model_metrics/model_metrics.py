"""Metrics of logged models: per (model, run, key, dataset) the latest value and the extremes of the points that name
the model.

A metric is a join of its points, so frames may come in any order, cut anywhere, and twice. Rewinds do not change it:
the model was saved as it was when it was measured, whatever its training did later.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runfold_schemas.events.frames import Frame


class Measured(NamedTuple):
    """Identity of a metric: the model, the run, the key, and the dataset. No dataset: empty names."""

    model_id: str
    run_id: str
    key: str
    dataset_name: str
    dataset_digest: str

    @property
    def dataset(self) -> bytes:
        """Return the id of the dataset, short enough for an index; empty if there is none."""
        return mark_of(self.dataset_name, self.dataset_digest)


def mark_of(dataset_name: str, dataset_digest: str) -> bytes:
    """Return the id of a dataset; empty if both names are."""
    if not dataset_name and not dataset_digest:
        return b""
    return blake2b(f"{dataset_name}\0{dataset_digest}".encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class ModelMetric:
    """The value with the largest (time, step, value), NaN above all numbers; and the extremes, None if all values are
    NaN.
    """

    time_ms: int
    step: int
    value: float
    least: float | None
    most: float | None

    def order(self) -> tuple[int, int, bool, float]:
        """Return the sort key of latest values: a total order, as in MLflow's store and Postgres."""
        nan = math.isnan(self.value)
        return (self.time_ms, self.step, nan, 0.0 if nan else self.value)


class ModelMetrics:
    """Metrics of logged models in some frames."""

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
        """Return what was joined since the last call."""
        found, self.found = self.found, {}
        return found


def join(one: ModelMetric, other: ModelMetric) -> ModelMetric:
    """Join two metrics."""
    latest = max(one, other, key=ModelMetric.order)
    leasts = [bound for bound in (one.least, other.least) if bound is not None]
    mosts = [bound for bound in (one.most, other.most) if bound is not None]
    return ModelMetric(latest.time_ms, latest.step, latest.value, min(leasts, default=None), max(mosts, default=None))


class FrameSummary(NamedTuple):
    """Latest values and extremes of a frame: float64 arrays in the order of its keys, NaN for no number.

    All keys share the latest time (ms) and step.
    """

    time_ms: int
    step: int
    latest: NDArray[np.float64]
    least: NDArray[np.float64]
    most: NDArray[np.float64]


def summarize_frame(frame: Frame) -> FrameSummary:
    """Summarize a frame that has rows."""
    steps: NDArray[np.int64] = np.frombuffer(frame.steps, np.int64)
    times: NDArray[np.int64] = np.frombuffer(frame.times, np.int64)
    # Adding 0.0 turns -0.0 into 0.0: the order of arrival must not decide between the two.
    values: NDArray[np.float64] = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys)) + 0.0
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
