"""Many lines as one: mean, spread, extremes, count and quantiles over the members, at each x or in each bucket.

A member has one value at an x, or in a bucket: the mean of its points there, so members that log more do not weigh
more. Smallest and largest are of all points, so no spike is lost. Non-finite points do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .grid import Chart, ChartLine, bucket_edges, ends_of, narrowed, union_grid

COUNT = "n"
SUM = "sum"
STATISTICS = ("mean", "sd", "se", "min", "max", COUNT)
"""Mean of the members, its (population) standard deviation and standard error, extremes, and members with a value."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Which columns an aggregate has: some of STATISTICS, or SUM, then quantiles (0 to 1) as `q0.05`."""

    names: tuple[str, ...] = STATISTICS
    quantiles: tuple[float, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return (*self.names, *(f"q{quantile:g}" for quantile in self.quantiles))


def aggregate_chart(
    groups: Sequence[Sequence[ChartLine]], spread: Spread, px: int | None, bounds: tuple[float, float] | None = None
) -> Chart:
    """Draw one aggregate per group on a common grid: at each x if these are few or `px` is None, else in `px` buckets.

    Columns are float64, NaN where no member has a value; `n` is 0 there.
    """
    low, high = ends_of([of for group in groups for of in group], bounds)
    within = [[narrowed(of, low, high) for of in group] for group in groups]
    grid = union_grid([of for group in within for of in group], px)
    if grid is not None:
        columns = [_by_x(group, grid, spread) for group in within]
        return Chart(grid, (low, high), columns, True)
    assert px is not None
    edges = bucket_edges(low, high, px)
    columns = [_by_bucket(group, edges, spread) for group in within]
    return Chart(edges[:-1] + (high - low) / px / 2, (low, high), columns, False)


def _by_x(group: Sequence[ChartLine], grid: Any, spread: Spread) -> list[Any]:
    return _statistics(group, [np.searchsorted(grid, of.x) for of in group], len(grid), spread)


def _by_bucket(group: Sequence[ChartLine], edges: Any, spread: Spread) -> list[Any]:
    cells = [np.searchsorted(edges[1:-1], of.x, "right") for of in group]
    return _statistics(group, cells, len(edges) - 1, spread)


def _statistics(group: Sequence[ChartLine], cells: Sequence[Any], size: int, spread: Spread) -> list[Any]:
    if not sum(map(len, group)):
        return [np.zeros(size) if name == COUNT else np.full(size, np.nan) for name in spread.columns]
    values = np.concatenate([of.values for of in group])
    cell = np.concatenate(cells)
    member = np.repeat(np.arange(len(group)), [len(of) for of in group])
    finite = np.isfinite(values)
    values, place = values[finite], cell[finite] * len(group) + member[finite]
    # Each member's cells ascend, so this merges sorted runs.
    order = np.argsort(place, kind="stable")
    values, place = values[order], place[order]
    starts = _starts(place)
    mean, low, high = values, values, values
    if len(starts) < len(values):
        mean = np.add.reduceat(values, starts) / np.diff(starts, append=len(values))
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return _spread_over(place[starts] // len(group), mean, low, high, size, spread)


def _spread_over(cell: Any, mean: Any, low: Any, high: Any, size: int, spread: Spread) -> list[Any]:
    """`cell` ascending: one row per member and cell."""
    starts = _starts(cell)
    count = np.diff(starts, append=len(cell))
    found: dict[str, Any] = {COUNT: count}
    if len(starts):
        # Sums, differences and squares of the largest doubles are beyond them.
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add.reduceat(mean, starts)
            found["mean"] = _means(mean, starts, count, total)
            found[SUM] = np.where(np.isfinite(total), total, found["mean"] * count)
            found["sd"] = np.sqrt(np.add.reduceat((mean - np.repeat(found["mean"], count)) ** 2, starts) / count)
        found["se"] = found["sd"] / np.sqrt(count)
        found["min"], found["max"] = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
        ordered = mean[np.lexsort((mean, cell))] if spread.quantiles else mean
        for quantile in spread.quantiles:
            found[f"q{quantile:g}"] = _quantile(ordered, starts, count, quantile)
    out = []
    for name in spread.columns:
        column = np.zeros(size) if name == COUNT else np.full(size, np.nan)
        if len(starts):
            column[cell[starts]] = found[name]
        out.append(column)
    return out


def _means(values: Any, starts: Any, count: Any, total: Any) -> Any:
    means = total / count
    if not np.isfinite(means).all():
        means = np.where(np.isfinite(means), means, np.add.reduceat(values / np.repeat(count, count), starts))
    # Twice, since a sum of large values rounds: the rest is small.
    rest = np.add.reduceat(values - np.repeat(means, count), starts) / count
    return means + np.where(np.isfinite(rest), rest, 0.0)


def _quantile(ordered: Any, starts: Any, count: Any, quantile: float) -> Any:
    """Between neighbours in proportion, as NumPy's default."""
    at = quantile * (count - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, count - 1)
    low, high = ordered[starts + below], ordered[starts + above]
    share = at - below
    with np.errstate(over="ignore", invalid="ignore"):
        between = low + (high - low) * share
    return np.where(np.isfinite(between), between, low * (1 - share) + high * share)


def _starts(ordered: Any) -> Any:
    if not len(ordered):
        return np.empty(0, np.int64)
    return np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1))
