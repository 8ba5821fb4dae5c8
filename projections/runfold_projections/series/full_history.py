"""Histories in full: every distinct point of many series, source by source, with a bounded part of them in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runfold_projections.history.cutoff import existing_runs
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.segments.distinct_points import Columns, distinct_points, points_between
from runfold_schemas.positions.vector import Vector

from .points import SeriesKey, SeriesPiece, read_series
from .visible_points import BranchChoice, VisibleRuns, read_visible_runs

GROUP_POINTS = 2_000_000
"""Runs are read together while they have at most so many points, of all their keys."""
KEYS_AT_ONCE = 8
"""Keys of a larger run that are read together."""


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Selects points of a series: steps from `first` to `last` (both included), one rank, one attempt, and branches."""

    first: int | None = None
    last: int | None = None
    rank: int | None = None
    attempt: str | None = None
    branches: BranchChoice = "effective"


class SourceHistory(NamedTuple):
    """The distinct points of a series by one attempt and rank on one branch, ordered by (step, time, value).

    `steps` and `times` (ms) are int64, `values` float64, of shape (points,). Rank -1: the writer named none.
    """

    run_id: str
    key: str
    attempt: str
    rank: int
    branch: int
    steps: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]


async def unknown_runs(connection: Connection, run_ids: Sequence[str], as_of: Vector | None = None) -> list[str]:
    """Return those of these runs that do not exist, or did not at that moment."""
    rows = await connection.fetch(
        "SELECT run_id FROM run WHERE run_id = ANY ($1::text[])", [run_id for run_id in run_ids if storable(run_id)]
    )
    known = {row["run_id"] for row in rows}
    if as_of is not None:
        known = await existing_runs(connection, sorted(known), as_of)
    return [run_id for run_id in run_ids if run_id not in known]


async def read_histories(
    connection: Connection,
    run_ids: Sequence[str],
    keys: Sequence[str],
    wanted: HistoryFilter,
    as_of: Vector | None = None,
) -> AsyncIterator[SourceHistory]:
    """Read the histories of series, now or at a moment of the past, that have such points.

    Runs and keys come in the order given, attempts as they appeared, branches and ranks ascending. Needs a read
    transaction. Memory holds a group of small runs, or some keys of a large one.
    """
    lines = await read_visible_runs(connection, run_ids, wanted.branches, as_of)
    sizes = await _sizes(connection, lines)
    for runs, some in _groups(run_ids, keys, sizes):
        own = replace(lines, parts={run_id: lines.parts[run_id] for run_id in runs})
        found = await read_series(connection, runs, some, own)
        for source in await asyncio.to_thread(_sources, found, runs, some, wanted):
            yield source


async def _sizes(connection: Connection, lines: VisibleRuns) -> dict[str, int]:
    """Points that lie in what each run shows, inherited ones included."""
    rows = await connection.fetch(
        "SELECT run_id, sum(points)::bigint AS points FROM segment WHERE run_id = ANY ($1::text[]) GROUP BY run_id",
        lines.owners,
    )
    own = {row["run_id"]: row["points"] for row in rows}
    return {run_id: sum(own.get(part.owner, 0) for part in parts) for run_id, parts in lines.parts.items()}


def _groups(
    run_ids: Sequence[str], keys: Sequence[str], sizes: Mapping[str, int]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    group: list[str] = []
    total = 0
    for run_id in run_ids:
        size = sizes.get(run_id, 0)
        if group and total + size > GROUP_POINTS:
            yield group, keys
            group, total = [], 0
        if size > GROUP_POINTS:
            for at in range(0, len(keys), KEYS_AT_ONCE):
                yield [run_id], keys[at : at + KEYS_AT_ONCE]
        elif size:
            group.append(run_id)
            total += size
    if group:
        yield group, keys


def _sources(
    found: Mapping[SeriesKey, Sequence[SeriesPiece]], run_ids: Sequence[str], keys: Sequence[str], wanted: HistoryFilter
) -> list[SourceHistory]:
    return [
        source
        for run_id in run_ids
        for key in keys
        for source in source_histories(run_id, key, found.get((run_id, key), ()), wanted)
    ]


def source_histories(
    run_id: str, key: str, pieces: Sequence[SeriesPiece], wanted: HistoryFilter
) -> Iterator[SourceHistory]:
    """The pieces of one series by attempt (as they appear), branch and rank, where they have wanted points."""
    attempts: dict[str, dict[tuple[int, int], list[Columns]]] = {}
    for attempt, rank, branch, columns in pieces:
        if wanted.rank in (None, rank) and wanted.attempt in (None, attempt):
            attempts.setdefault(attempt, {}).setdefault((branch, rank), []).append(columns)
    for attempt, parts in attempts.items():
        for branch, rank in sorted(parts):
            steps, times, values = points_between(distinct_points(parts[branch, rank]), wanted.first, wanted.last)
            if len(steps):
                yield SourceHistory(run_id, key, attempt, rank, branch, steps, times, values)
