"""Metrics of a run: latest values, and the history of a key out of its segments."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from runfold_projections.charts.rank_reduction import reduced
from runfold_projections.metrics.summaries import Block
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.segments.distinct_points import Columns
from runfold_schemas.events.rank_reduction import REDUCTION_TAG, Reduction, reduction_of
from runfold_schemas.positions.vector import Vector

from .points import SeriesPiece, read_series
from .visible_points import read_visible_runs


class LatestMetric(NamedTuple):
    """The value of a key with the largest (step, time, value); time in ms since the epoch.

    A tuple, since a page of a search makes tens of thousands.
    """

    key: str
    value: float
    step: int
    time_ms: int
    model_id: str | None
    dataset_name: str | None
    dataset_digest: str | None


def latest_metrics(block: Block) -> Iterator[LatestMetric]:
    """The latest values that a row of `metric_block` holds."""
    return (LatestMetric(key, value, step, time_ms, *context) for key, value, step, time_ms, context in block.latest())


@dataclass(frozen=True, slots=True)
class MetricHistory:
    """A key's distinct points as NumPy columns, ordered by (time, step, value); those of a reduction over ranks by
    step.

    `steps` and `times` (ms since the epoch) are int64, `values` is float64. NaN stands where 0 would, after it:
    MLflow's store keeps NaN as 0 with a mark.
    """

    steps: Any
    times: Any
    values: Any
    ancestors: frozenset[str] = frozenset()
    """Runs that this one was forked from, of which points may be among these."""
    reduction: Reduction = Reduction.ALL

    def __len__(self) -> int:
        return len(self.steps)


_MARK = """
WITH RECURSIVE line AS (
    SELECT $1::text COLLATE "C" AS run_id UNION SELECT f.parent_run_id FROM fork f JOIN line USING (run_id)
)
SELECT EXISTS (SELECT FROM run r WHERE r.run_id = l.run_id)::integer,
       (SELECT coalesce(max(c.number), 0) FROM cut c WHERE c.run_id = l.run_id),
       s.last_offset, s.points,
       coalesce((SELECT t.value FROM run_tag t WHERE t.run_id = $1 AND t.key = $2),
                (SELECT t.value FROM run r JOIN experiment_tag t USING (experiment_id)
                 WHERE r.run_id = $1 AND t.key = $2)) AS reduction
FROM line l CROSS JOIN LATERAL (
    SELECT coalesce(max(s.last_offset), -1) AS last_offset, coalesce(sum(s.points), 0)::bigint AS points
    FROM segment s WHERE s.run_id = l.run_id
) s
ORDER BY l.run_id
"""


class HistoryVersion(NamedTuple):
    """`numbers` differ whenever the run's histories may: points are only added, in segments with higher offsets, and
    cuts have higher numbers. They cover the runs that this one was forked from. `reduction` is what the run's tag says,
    else its experiment's.
    """

    numbers: tuple[int, ...] = ()
    reduction: Reduction = Reduction.ALL


async def history_mark(connection: Connection, run_id: str) -> HistoryVersion:
    """The mark of the run's histories now."""
    rows = await connection.fetch(_MARK, run_id, REDUCTION_TAG) if storable(run_id) else []
    if not rows:
        return HistoryVersion()
    return HistoryVersion(tuple(n for *numbers, _ in rows for n in numbers), reduction_of(rows[0]["reduction"]))


async def history(
    connection: Connection, run_id: str, key: str, as_of: Vector | None = None, reduction: Reduction = Reduction.ALL
) -> MetricHistory:
    """The effective points of a key, over all attempts and ranks, with what was inherited; empty for an unknown run or
    key. With `as_of`, those that there were at that moment.

    A point is (step, time, value), as in MLflow: what two ranks logged alike is shown once. With a reduction there is
    one point a step, by step.
    """
    lines = await read_visible_runs(connection, [run_id], as_of=as_of)
    found = await read_series(connection, [run_id], [key], lines)
    own = await asyncio.to_thread(_shown, found.get((run_id, key), ()), reduction)
    return replace(own, ancestors=lines.ancestors, reduction=reduction)


def _shown(pieces: Sequence[SeriesPiece], reduction: Reduction) -> MetricHistory:
    if reduction is Reduction.ALL or not pieces:
        return distinct([piece.columns for piece in pieces])
    ranks: dict[int, list[Columns]] = {}
    for piece in pieces:
        ranks.setdefault(piece.rank, []).append(piece.columns)
    return MetricHistory(*reduced(ranks, reduction))


def distinct(columns: Sequence[Columns]) -> MetricHistory:
    """The points of several columns, each once, in the order of a history."""
    steps, times, values = _joined(columns)
    nan = np.isnan(values)
    rank = np.where(nan, 0.0, values)
    order = np.lexsort((nan, rank, steps, times))
    again = np.ones(max(len(order) - 1, 0), bool)
    for column in (steps, times, rank, nan):
        again &= column[order[1:]] == column[order[:-1]]
    kept = order[np.concatenate((np.ones(min(len(order), 1), bool), ~again))]
    return MetricHistory(steps[kept], times[kept], values[kept])


def _joined(columns: Sequence[Columns]) -> Columns:
    if not columns:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    steps, times, values = zip(*columns, strict=True)
    return np.concatenate(steps), np.concatenate(times), np.concatenate(values)
