"""Points as columns: the distinct ones, in order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Steps, times (ms since the epoch) and values of points, three arrays of shape (points,)."""


def distinct_points(pieces: Sequence[Columns]) -> Columns:
    """Join the pieces (at least one) into a set of points, ordered by (step, time, value).

    Two values are the same if their bits are, so 0.0 and -0.0 differ.
    """
    # Batches mostly follow one another in steps. Then nothing remains to be sorted.
    pieces = sorted(pieces, key=lambda piece: piece[0][0] if len(piece[0]) else 0)
    steps, times, values = (np.concatenate(column) for column in zip(*pieces, strict=True))
    # Compared, not subtracted: the difference of two steps can overflow.
    if (steps[1:] > steps[:-1]).all():
        return steps, times, values
    bits = values.view(np.int64)
    order = np.lexsort((bits, values, times, steps))
    steps, times, values, bits = steps[order], times[order], values[order], bits[order]
    repeated = (steps[1:] == steps[:-1]) & (times[1:] == times[:-1]) & (bits[1:] == bits[:-1])
    if not repeated.any():
        return steps, times, values
    kept = np.concatenate(([True], ~repeated))
    return steps[kept], times[kept], values[kept]


def points_between(points: Columns, first: int | None, last: int | None) -> Columns:
    """Select the points from step `first` to step `last`, both included. `points` are ordered by step."""
    steps = points[0]
    start = 0 if first is None else int(np.searchsorted(steps, first, "left"))
    stop = len(steps) if last is None else int(np.searchsorted(steps, last, "right"))
    return points[0][start:stop], points[1][start:stop], points[2][start:stop]
