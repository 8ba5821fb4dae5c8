"""Metrics: points under (run, attempt, rank, branch). Nothing is rejected; summaries are joins of the effective points, so batches may be cut anywhere."""

from array import array
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from runfold_schemas.events.frames import Frame

from .branches import Lineage
from .summaries import Summaries


@dataclass(slots=True)
class RunMetrics:
    """Metrics of one run: how its points hang together, and summaries of the effective ones by key."""

    lineage: Lineage = field(default_factory=Lineage)
    declared: set[str] = field(default_factory=set)
    """Attempts that an event has said something of."""
    forked: bool = False
    summaries: Summaries = field(default_factory=Summaries)


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
