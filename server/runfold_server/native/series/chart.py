"""From the points of a series query to its chart: lines per run or rank, smoothed, aggregated, on one grid."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold_projections.charts.aggregates import aggregate_chart
from runfold_projections.charts.grid import (
    COLUMNS,
    Chart,
    ChartLine,
    chart_line,
    chart_line_along,
    draw_chart,
    narrowed,
    nonfinite,
)
from runfold_projections.charts.smoothing import Smoothing, smooth_values
from runfold_projections.runs.groups import Group
from runfold_projections.segments.distinct_points import Columns
from runfold_projections.series.points import SeriesKey, SeriesPiece
from runfold_server.core.errors import InvalidParameter

from .query import Ranks, SeriesRequest

MOST_CELLS = 5_000_000
"""Values of an aggregate at every x."""
_NO_VALUES = frozenset({"n", "sd", "se"})
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What was read: runs and keys in the order in which they are shown, pieces of their series, starts of the runs
    (ms), groups.
    """

    runs: Sequence[str]
    keys: Sequence[str]
    series: Mapping[SeriesKey, Sequence[SeriesPiece]]
    starts: Mapping[str, int]
    groups: Mapping[str, Group] | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart and what is said of it."""

    head: Json
    chart: Chart


@dataclass(frozen=True, slots=True)
class _Member:
    """One line, and what it is called."""

    run_id: str
    key: str
    rank: int | None
    line: ChartLine

    @property
    def name(self) -> Json:
        return {"run_id": self.run_id, "metric": self.key} | ({} if self.rank is None else {"rank": self.rank})


def draw(wanted: SeriesRequest, found: Found) -> Drawn:
    """InvalidParameter if the answer would be too large."""
    members = [member for run in found.runs for key in found.keys for member in _members(wanted, found, run, key)]
    return _aggregated(wanted, found, members) if wanted.grouped else _single(wanted, members)


def _members(wanted: SeriesRequest, found: Found, run_id: str, key: str) -> Iterator[_Member]:
    rank = wanted.query.rank
    pieces = [piece for piece in found.series.get((run_id, key), ()) if rank in (None, piece.rank)]
    if not pieces:
        return
    others = [] if wanted.along is None else [p.columns for p in found.series.get((run_id, wanted.along), ())]
    split: dict[int | None, list[Columns]] = {}
    for piece in pieces:
        split.setdefault(None if wanted.ranks is Ranks.MERGED else piece.rank, []).append(piece.columns)
    for own in sorted(split, key=lambda one: -1 if one is None else one):
        of = (
            chart_line(split[own], wanted.x, found.starts.get(run_id, 0))
            if wanted.along is None
            else chart_line_along(split[own], others)
        )
        if len(of):
            yield _Member(run_id, key, own, _smooth(wanted, of))


def _smooth(wanted: SeriesRequest, of: ChartLine) -> ChartLine:
    smooth = wanted.query.smooth
    if smooth is None or wanted.smooth is Smoothing.OFF:
        return of
    values = smooth_values(of.x, of.values, wanted.smooth, smooth.v)
    # Of what an aggregate is made of, only the smoothed line counts; beside a line of its own it is one column more.
    return ChartLine(of.x, values) if wanted.grouped else ChartLine(of.x, of.values, values)


def _single(wanted: SeriesRequest, members: Sequence[_Member]) -> Drawn:
    assert wanted.query.px is not None
    drawn = draw_chart([member.line for member in members], wanted.shown, wanted.query.px, wanted.query.range)
    series = []
    for member in members:
        columns = [*COLUMNS[wanted.shown], *(["smooth"] if member.line.smooth is not None else [])]
        marks = [[x, value] for x, value in nonfinite(member.line)]
        series.append(member.name | _about(columns, [member.line], marks))
    return Drawn(_head(wanted, drawn, series, members, drawn.columns), drawn)


def _aggregated(wanted: SeriesRequest, found: Found, members: Sequence[_Member]) -> Drawn:
    groups: dict[tuple[Any, str], list[_Member]] = {}
    for member in members:
        own = member.run_id if found.groups is None else found.groups[member.run_id]
        groups.setdefault((own, member.key), []).append(member)
    lines = [[member.line for member in group] for group in groups.values()]
    columns = wanted.spread.columns
    drawn = aggregate_chart(lines, wanted.spread, wanted.query.px, wanted.query.range)
    if len(drawn.x) * len(columns) * len(groups) > MOST_CELLS:
        raise InvalidParameter(
            f"An aggregate of {len(groups)} lines at {len(drawn.x):,} places of x is asked for, with "
            f"{len(columns)} columns: more than "
            f"{MOST_CELLS:,} values. Ask for a range, or for buckets by `px`."
        )
    series = []
    for (own, key), group in groups.items():
        name = {"run_id": own} if found.groups is None else {"group": dict(own)}
        about = _about(list(columns), [member.line for member in group], [])
        series.append(name | {"metric": key, "members": len(group)} | about)
    shown = [[c for name, c in zip(columns, own, strict=True) if name not in _NO_VALUES] for own in drawn.columns]
    return Drawn(_head(wanted, drawn, series, members, shown), drawn)


def _about(columns: list[str], lines: Sequence[ChartLine], marks: Sequence[Sequence[object]]) -> Json:
    latest = max(lines, key=lambda of: of.x[-1])
    last = float(latest.values[-1])
    return {
        "cols": columns,
        "raw_points": sum(map(len, lines)),
        "nonfinite": marks,
        "last": [float(latest.x[-1]), last if np.isfinite(last) else None],
    }


def _head(
    wanted: SeriesRequest, drawn: Chart, series: list[Json], members: Sequence[_Member], shown: list[list[Any]]
) -> Json:
    some = [values for own in shown for column in own if len(values := column[np.isfinite(column)])]
    y = (min(float(v.min()) for v in some), max(float(v.max()) for v in some)) if some else (None, None)
    head: Json = {
        "n": len(drawn.x),
        "exact": drawn.exact,
        "x": {"kind": wanted.query.x, "min": drawn.bounds[0], "max": drawn.bounds[1]},
        "y": {"min": y[0], "max": y[1]},
        "series": series,
    }
    if wanted.query.clip is not None:
        head["y"]["clip"] = _clip(wanted.query.clip, members, drawn.bounds)
    return head


def _clip(
    quantiles: tuple[float, float], members: Sequence[_Member], bounds: tuple[float, float]
) -> list[float] | None:
    values = [narrowed(member.line, *bounds).values for member in members]
    finite = [own[np.isfinite(own)] for own in values]
    if not sum(map(len, finite)):
        return None
    low, high = np.quantile(np.concatenate(finite), quantiles)
    return [float(low), float(high)]
