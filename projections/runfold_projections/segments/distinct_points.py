"""Points as columns: distinct ones, in order."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .packs import Columns


def distinct(pieces: Sequence[Columns]) -> Columns:
    """All points of the pieces (at least one), each once, by (step, time, value): a series is a set.

    Two values are the same if their bits are, so that 0.0 and -0.0 are two.
    """
    # Batches mostly follow one another in steps, too: then nothing is left to sort.
    pieces = sorted(pieces, key=lambda piece: piece[0][0] if len(piece[0]) else 0)
    steps, times, values = (np.concatenate(column) for column in zip(*pieces, strict=True))
    # Not by differences: those of int64 wrap.
    if (steps[1:] > steps[:-1]).all():
        return steps, times, values
    bits = values.view(np.int64)
    order = np.lexsort((bits, values, times, steps))
    steps, times, values, bits = steps[order], times[order], values[order], bits[order]
    again = (np.diff(steps) == 0) & (np.diff(times) == 0) & (np.diff(bits) == 0)
    if not again.any():
        return steps, times, values
    kept = np.concatenate(([True], ~again))
    return steps[kept], times[kept], values[kept]


def within(points: Columns, first: int | None, last: int | None) -> Columns:
    """The points, in the order of their steps, from step `first` to step `last`, both included."""
    steps: Any = points[0]
    start = 0 if first is None else int(np.searchsorted(steps, first, "left"))
    stop = len(steps) if last is None else int(np.searchsorted(steps, last, "right"))
    return points[0][start:stop], points[1][start:stop], points[2][start:stop]
