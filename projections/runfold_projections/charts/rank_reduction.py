"""Points of several ranks as one a step, for histories in which ranks have no place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runfold_projections.segments.distinct_points import Columns
from runfold_schemas.events.rank_reduction import Reduction

from .aggregates import SUM, Spread, aggregate_chart
from .grid import ChartLine

_SPREADS = {
    Reduction.MEAN: Spread(("mean",)),
    Reduction.MIN: Spread(("min",)),
    Reduction.MAX: Spread(("max",)),
    Reduction.MEDIAN: Spread((), (0.5,)),
    Reduction.SUM: Spread((SUM,)),
}


def reduced(ranks: Mapping[int, Sequence[Columns]], reduction: Reduction) -> Columns:
    """One point per step that any rank (each with at least one piece) has, by step; `reduction` is not ALL.

    A rank counts with the last point that it has there, by (time, value). The time is the newest of these points.
    Values that are NaN or infinite do not count, as in aggregates; where no rank has another, the value is the lowest
    rank's. FIRST is the lowest rank's point as it is.
    """
    points = [_last_of_steps(ranks[rank]) for rank in sorted(ranks)]
    grid = np.unique(np.concatenate([steps for steps, _, _ in points]))
    places = [np.searchsorted(grid, steps) for steps, _, _ in points]
    newest = np.full(len(grid), np.iinfo(np.int64).min)
    first_times, first_values = np.empty(len(grid), np.int64), np.empty(len(grid))
    # From the highest rank down, so that the lowest one's stay.
    for place, (_, times, values) in zip(reversed(places), reversed(points), strict=True):
        newest[place] = np.maximum(newest[place], times)
        first_times[place], first_values[place] = times, values
    if reduction is Reduction.FIRST:
        return grid, first_times, first_values
    # Along places instead of steps: a float64 does not hold every step.
    lines = [ChartLine(place.astype(np.float64), values) for place, (_, _, values) in zip(places, points, strict=True)]
    (over_ranks,) = aggregate_chart([lines], _SPREADS[reduction], None).columns[0]
    return grid, newest, np.where(np.isnan(over_ranks), first_values, over_ranks)


def _last_of_steps(pieces: Sequence[Columns]) -> Columns:
    """The last point of each step in the order of MLflow's histories (NaN stands where 0 would, after it), by step."""
    # Batches of a rank mostly follow one another in steps: then nothing is left to sort.
    pieces = sorted(pieces, key=lambda piece: piece[0][0] if len(piece[0]) else 0)
    steps, times, values = (np.concatenate(column) for column in zip(*pieces, strict=True))
    if (steps[1:] > steps[:-1]).all():
        return steps, times, values
    nan = np.isnan(values)
    order: Any = np.lexsort((values.view(np.int64), nan, np.where(nan, 0.0, values), times, steps))
    ordered = steps[order]
    last = order[np.concatenate((ordered[1:] != ordered[:-1], np.ones(min(len(ordered), 1), bool)))]
    return steps[last], times[last], values[last]
