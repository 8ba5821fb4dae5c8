"""Metrics of one run in memory.

Points are stored under (run, attempt, rank, branch). Summaries are joins of the effective points, so that a log may be
cut into batches anywhere.
"""

from array import array
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from runfold_schemas.events.frames import Frame

from .branches import RunBranches
from .summaries import Summaries


@dataclass(slots=True)
class RunMetrics:
    """Metrics of one run: its branches, and summaries of the effective points by key."""

    branches: RunBranches = field(default_factory=RunBranches)
    summaries: Summaries = field(default_factory=Summaries)


def rows_up_to(frame: Frame, limit: int | None) -> Frame:
    """Return the rows of a frame up to a step, inclusive; None: all rows."""
    if limit is None:
        return frame
    kept = np.frombuffer(frame.steps, np.int64) <= limit
    if kept.all():
        return frame
    values: NDArray[np.float64] = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
    return replace(
        frame,
        steps=array("q", np.frombuffer(frame.steps, np.int64)[kept].tobytes()),
        times=array("q", np.frombuffer(frame.times, np.int64)[kept].tobytes()),
        values=array("d", values[kept].tobytes()),
    )
