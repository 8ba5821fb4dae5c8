"""Many series on one x grid of a chart `px` pixels wide: exact for few points, else in buckets with extremes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold_projections.segments.distinct_points import Columns, distinct_points

MOST_EXACT_COLUMNS = 4_000
MOST_NONFINITE = 100
_LARGEST = float(np.finfo(np.float32).max)


class XAxis(StrEnum):
    """What the x axis is: steps, ms since the epoch, or seconds since the run's start."""

    STEP = "step"
    WALL = "wall"
    RELATIVE = "relative"


class Drawing(StrEnum):
    """What a chart draws of a bucket: its extremes as a line, or as a band with the last value; its last value; its
    mean.
    """

    MINMAX = "minmax"
    BAND = "band"
    LAST = "last"
    MEAN = "mean"


COLUMNS = {
    Drawing.MINMAX: ("y",),
    Drawing.BAND: ("min", "max", "last"),
    Drawing.LAST: ("y",),
    Drawing.MEAN: ("mean",),
}
"""Names of a series' columns.

With MINMAX a bucket has two grid columns: both extremes, in the order of their points.
"""


@dataclass(frozen=True, slots=True)
class ChartLine:
    """A series along x: `x` ascending, equal ones by time; float64 both."""

    x: NDArray[np.float64]
    values: NDArray[np.float64]
    smooth: NDArray[np.float64] | None = None
    """Smoothed values of the points, where a chart shows them beside."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class Chart:
    """`x` (float64) is the grid of all series; each series has its columns (NaN: a gap).

    `bounds` are the range's ends.
    """

    x: NDArray[np.float64]
    bounds: tuple[float, float]
    columns: list[list[Any]]
    exact: bool


def chart_line(pieces: Sequence[Columns], kind: XAxis, start_ms: int = 0) -> ChartLine:
    """Return the distinct points of a series in pieces, along x."""
    steps, times, values = distinct_points(pieces)
    if kind is XAxis.STEP:
        return ChartLine(steps.astype(np.float64), values)
    order = slice(None) if (times[1:] > times[:-1]).all() else np.lexsort((values.view(np.int64), steps, times))
    times, values = times[order], values[order]
    return ChartLine((times - start_ms) / 1000 if kind is XAxis.RELATIVE else times.astype(np.float64), values)


def chart_line_along(pieces: Sequence[Columns], others: Sequence[Columns]) -> ChartLine:
    """Return the distinct points of a series along another: x is the other's latest value at or before the point's
    step.

    Points before the other's first one, and those where it is not finite, are left out.
    """
    steps, _, values = distinct_points(pieces)
    if not others:
        return ChartLine(np.empty(0), np.empty(0))
    other_steps, _, other_values = distinct_points(others)
    at = np.searchsorted(other_steps, steps, "right") - 1
    x = np.where(at >= 0, other_values[np.maximum(at, 0)], np.nan)
    some = np.isfinite(x)
    x, values = x[some], values[some]
    order = np.argsort(x, kind="stable")
    return ChartLine(x[order], values[order])


def nonfinite(of: ChartLine) -> list[tuple[float, str]]:
    """Return the first non-finite points, which a chart marks on its edge, as (x, value)."""
    at = np.flatnonzero(~np.isfinite(of.values))[:MOST_NONFINITE]
    return [(x, str(value)) for x, value in zip(of.x[at].tolist(), of.values[at].tolist(), strict=True)]


def draw_chart(lines: Sequence[ChartLine], shown: Drawing, px: int, bounds: tuple[float, float] | None = None) -> Chart:
    """Draw all lines on one grid over a range of x, by default from their first point to their last.

    Columns are float32.

    A line that has smoothed values has one more column for them: a bucket's is that of its last point.
    """
    low, high = ends_of(lines, bounds)
    within = [narrowed(of, low, high) for of in lines]
    grid = _exact_grid(within, px)
    if grid is not None:
        return Chart(grid, (low, high), [_exact(of, grid, shown) for of in within], True)
    edges = bucket_edges(low, high, px)
    width = (high - low) / px
    x = edges[:-1] + width / 2
    if shown is Drawing.MINMAX:
        x = np.column_stack((edges[:-1] + width / 4, edges[:-1] + 3 * width / 4)).ravel()
    columns = []
    before, starts = None, None
    for of in within:
        # Keys of a run, and similar runs, mostly have the same x.
        if before is None or not np.array_equal(of.x, before):
            before, starts = of.x, _starts(of.x, edges)
        columns.append([*_buckets(of, starts, shown), *_smooth_buckets(of, edges, shown)])
    return Chart(x, (low, high), columns, False)


def ends_of(lines: Sequence[ChartLine], bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Return the range of x: `bounds`, by default from the first point to the last."""
    ends = [(of.x[0], of.x[-1]) for of in lines if len(of)]
    return bounds or ((float(min(a for a, _ in ends)), float(max(b for _, b in ends))) if ends else (0.0, 0.0))


def narrowed(of: ChartLine, low: float, high: float) -> ChartLine:
    """Return the points with low <= x <= high."""
    start, stop = np.searchsorted(of.x, low, "left"), np.searchsorted(of.x, high, "right")
    return ChartLine(of.x[start:stop], of.values[start:stop], None if of.smooth is None else of.smooth[start:stop])


def bucket_edges(low: float, high: float, px: int) -> NDArray[np.float64]:
    """Return the px + 1 edges of buckets of equal width."""
    return low + (high - low) * np.arange(px + 1) / px


def union_grid(lines: Sequence[ChartLine], px: int | None) -> Any:
    """Return all x of all lines; None if they are too many for a chart `px` pixels wide."""
    if px is not None and any(len(of) > MOST_EXACT_COLUMNS and len(np.unique(of.x)) > 2 * px for of in lines):
        return None
    grid = np.unique(np.concatenate([of.x for of in lines])) if lines else np.empty(0)
    return grid if px is None or len(grid) <= min(2 * px, MOST_EXACT_COLUMNS) else None


def _exact_grid(lines: Sequence[ChartLine], px: int) -> Any:
    """Return all x of all lines; None if they are too many, or a line has two points at one x."""
    if any(len(of) > 2 * px or not (np.diff(of.x) > 0).all() for of in lines):
        return None
    grid = np.unique(np.concatenate([of.x for of in lines])) if lines else np.empty(0)
    return grid if len(grid) <= MOST_EXACT_COLUMNS else None


def _exact(of: ChartLine, grid: Any, shown: Drawing) -> list[Any]:
    at = np.searchsorted(grid, of.x)
    columns = [_spread(len(grid), at, of.values)] * len(COLUMNS[shown])
    return columns if of.smooth is None else [*columns, _spread(len(grid), at, of.smooth)]


def _spread(size: int, at: Any, values: Any) -> Any:
    out = np.full(size, np.nan, np.float32)
    out[at] = drawable(values)
    return out


def drawable(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Convert to float32: non-finite values become gaps, values beyond float32 its largest."""
    return np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), np.nan).astype(np.float32)


def _smooth_buckets(of: ChartLine, edges: Any, shown: Drawing) -> list[Any]:
    if of.smooth is None:
        return []
    # If the last point is not finite, its bucket's last finite one counts.
    some = np.isfinite(of.smooth)
    x = of.x[some]
    (column,) = _buckets(ChartLine(x, of.smooth[some]), _starts(x, edges), Drawing.LAST)
    return [np.repeat(column, 2) if shown is Drawing.MINMAX else column]


def _starts(x: Any, edges: Any) -> Any:
    """Return the index in x where each bucket begins, and the end."""
    return np.concatenate(([0], np.searchsorted(x, edges[1:-1], "left"), [len(x)]))


def _buckets(of: ChartLine, starts: Any, shown: Drawing) -> list[Any]:
    px = len(starts) - 1
    filled = np.flatnonzero(np.diff(starts))
    first, stop = starts[filled], starts[filled + 1]
    if not len(filled):
        return [np.full(2 * px if shown is Drawing.MINMAX else px, np.nan, np.float32) for _ in COLUMNS[shown]]
    finite = bool(np.isfinite(of.values).all())
    values = of.values if finite else np.where(np.isinf(of.values), np.nan, of.values)
    last = values[stop - 1]
    # fmin skips NaN, and takes several times as long.
    least, most = (np.minimum, np.maximum) if finite else (np.fmin, np.fmax)
    match shown:
        case Drawing.LAST:
            return [_spread(px, filled, last)]
        case Drawing.MEAN:
            numbers = np.isfinite(values)
            with np.errstate(invalid="ignore"):
                sums = np.add.reduceat(np.where(numbers, values, 0.0), first)
                return [_spread(px, filled, sums / np.add.reduceat(numbers, first, dtype=np.int64))]
        case Drawing.BAND:
            low, high = least.reduceat(values, first), most.reduceat(values, first)
            return [_spread(px, filled, column) for column in (low, high, last)]
    low, high = least.reduceat(values, first), most.reduceat(values, first)
    bucket = np.repeat(np.arange(len(filled)), stop - first)
    rising = _place(values, low, first, bucket) <= _place(values, high, first, bucket)
    out = np.full((px, 2), np.nan, np.float32)
    out[filled, 0] = drawable(np.where(rising, low, high))
    out[filled, 1] = drawable(np.where(rising, high, low))
    return [out.ravel()]


def _place(values: Any, wanted: Any, first: Any, bucket: Any) -> Any:
    """Return the first index of each bucket's wanted value; its start if all are NaN.

    `bucket` has each value's bucket.
    """
    found = np.flatnonzero(values == wanted[bucket])
    of = bucket[found]
    leading = np.flatnonzero(np.diff(of, prepend=-1))
    place = first.copy()
    place[of[leading]] = found[leading]
    return place
