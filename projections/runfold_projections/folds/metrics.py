"""Metrics: points under (run, attempt, rank, branch). Nothing is rejected; summaries are joins of the effective points, so batches may be cut anywhere."""

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from runfold_schemas.frames import Frame

from .lineage import Lineage

Cell = tuple[int, int, float, bool, bool, str, str, str]
NO_RANK = -1


@dataclass(frozen=True, slots=True)
class Latest:
    """The value of one key with the largest (step, time, value), as MLflow's store decides it; NaN counts as 0 there."""

    value: float
    step: int
    time_ms: int
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    def order(self) -> Cell:
        """A total order, so that the join of any two does not depend on which came first."""
        nan = math.isnan(self.value)
        rank = 0.0 if nan else self.value
        positive = math.copysign(1.0, self.value) > 0
        context = (self.model_id or "", self.dataset_name or "", self.dataset_digest or "")
        return (self.step, self.time_ms, rank, nan, positive, *context)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of one key of a run: latest value, and the extremes (None if all values are NaN)."""

    latest: Latest
    least: float | None
    most: float | None

    def join(self, other: "Summary") -> "Summary":
        """Both together: associative, commutative, idempotent."""
        newer = self.latest if self.latest.order() >= other.latest.order() else other.latest
        return Summary(newer, _pick(min, self.least, other.least), _pick(max, self.most, other.most))


@dataclass(slots=True)
class RunMetrics:
    """Metrics of one run: how its points hang together, and summaries of the effective ones by key."""

    lineage: Lineage = field(default_factory=Lineage)
    declared: set[str] = field(default_factory=set)
    """Attempts that an event has said something of."""
    forked: bool = False
    summaries: dict[str, Summary] = field(default_factory=dict)


def fold_frame(state: RunMetrics, frame: Frame) -> set[str]:
    """Take a frame into the summaries; answers the keys whose summary changed."""
    changed = set()
    for key, new in summarise(frame):
        old = state.summaries.get(key)
        joined = new if old is None else old.join(new)
        # Not by equality of the latest: 0.0 and -0.0 are equal, and differ.
        if old is None or joined.latest is not old.latest or (joined.least, joined.most) != (old.least, old.most):
            state.summaries[key] = joined
            changed.add(key)
    return changed


def until(frame: Frame, limit: int | None) -> Frame:
    """The rows of a frame up to a step."""
    if limit is None:
        return frame
    kept = np.frombuffer(frame.steps, np.int64) <= limit
    if kept.all():
        return frame
    values: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
    return replace(
        frame,
        steps=array("q", np.frombuffer(frame.steps, np.int64)[kept].tobytes()),
        times=array("q", np.frombuffer(frame.times, np.int64)[kept].tobytes()),
        values=array("d", values[kept].tobytes()),
    )


def summarise(frame: Frame) -> Iterable[tuple[str, Summary]]:
    """The summary of every key of a frame, computed on whole columns."""
    rows, width = frame.rows, len(frame.keys)
    if not rows or not width:
        return []
    steps: Any = np.frombuffer(frame.steps, np.int64)
    times: Any = np.frombuffer(frame.times, np.int64)
    values: Any = np.frombuffer(frame.values, np.float64).reshape(rows, width)
    last = np.flatnonzero(steps == steps.max())
    last = last[times[last] == times[last].max()]
    step, time = int(steps[last[0]]), int(times[last[0]])
    # An empty name names nothing: told apart from None, it would tie with it, and the order of arrival would decide.
    context = (frame.model_id or None, frame.dataset_name or None, frame.dataset_digest or None)
    # Adding 0.0 turns -0.0 into 0.0: an extreme must not depend on which of the two came first.
    least: list[float] = (np.fmin.reduce(values, axis=0) + 0.0).tolist()
    most: list[float] = (np.fmax.reduce(values, axis=0) + 0.0).tolist()
    candidates: list[list[float]] = values[last].tolist()
    newest = [Latest(v, step, time, *context) for v in candidates[0]]
    for row in candidates[1:]:
        newest = [max(a, Latest(v, step, time, *context), key=Latest.order) for a, v in zip(newest, row, strict=True)]
    return [
        (key, Summary(latest, _number(low), _number(high)))
        for key, latest, low, high in zip(frame.keys, newest, least, most, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _pick(choose: Any, a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    chosen: float = choose(a, b)
    return chosen
