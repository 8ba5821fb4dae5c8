"""Duplicates: points that an earlier event has logged on the same branch, so that histories already show them."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runfold_projections.postgres.connection import Connection
from runfold_projections.segments.compacted import CompactedSegment
from runfold_projections.segments.distinct_points import Columns
from runfold_projections.segments.level0 import read_level0_key

_Segment = tuple[int, str, str, int, bytes]
"""Branch, first and last key, head and data."""


class LoggedPoints(NamedTuple):
    """Points of one series in the event at `offset` of `metrics`: three arrays of shape (points,).

    `times` are in ms since the epoch. Rank -1: the writer named none.
    """

    run_id: str
    key: str
    attempt: str
    rank: int
    offset: int
    steps: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def source(self) -> tuple[str, str, int]:
        """Run, attempt and rank."""
        return (self.run_id, self.attempt, self.rank)


class Duplicates(NamedTuple):
    """Which of the points were logged before, and the latest time of their neighbours.

    `mask` is a bool array of shape (points,). `latest_ms` is the latest time of any point up to the event whose step is
    in the range of their steps.
    """

    mask: NDArray[np.bool_]
    latest_ms: int


async def last_steps(connection: Connection, asked: Sequence[LoggedPoints]) -> list[int | None]:
    """Return per series a bound of the steps logged to it earlier; None: no points.

    Needs what `find_duplicates` does.
    """
    rows = await connection.fetch(
        _LAST_STEPS,
        [one.run_id for one in asked],
        [one.key for one in asked],
        [one.attempt for one in asked],
        [one.rank for one in asked],
        [one.offset for one in asked],
    )
    return [row["last_step"] for row in rows]


async def find_duplicates(connection: Connection, asked: Sequence[LoggedPoints]) -> list[Duplicates]:
    """Find the duplicates among points. Needs a read transaction whose checkpoint has passed all their offsets."""
    found: dict[int, Duplicates] = {}
    order = sorted(range(len(asked)), key=lambda n: asked[n].source)
    for source, group in groupby(order, key=lambda n: asked[n].source):
        numbers = list(group)
        own = [asked[n] for n in numbers]
        segments = await connection.fetch(
            _SEGMENTS,
            *source,
            max(one.offset for one in own),
            min(int(one.steps.min()) for one in own),
            max(int(one.steps.max()) for one in own),
            sorted({one.key for one in own}),
        )
        packs = [(row["branch"], row["first_key"], row["last_key"], row["head"], row["data"]) for row in segments]
        found.update(zip(numbers, await asyncio.to_thread(_all_before, own, packs), strict=True))
    return [found[n] for n in range(len(asked))]


def _all_before(asked: Sequence[LoggedPoints], segments: Sequence[_Segment]) -> list[Duplicates]:
    return [_before(one, segments) for one in asked]


def _before(one: LoggedPoints, segments: Sequence[_Segment]) -> Duplicates:
    earlier: dict[int, set[tuple[int, int, int]]] = {}
    whole: dict[int, set[tuple[int, int, int]]] = {}
    latest = -(2**63)
    for branch, first_key, last_key, head, data in segments:
        if not first_key <= one.key <= last_key:
            continue
        for below, rows in ((one.offset, earlier), (one.offset + 1, whole)):
            for columns in _columns(head, data, one.key, below):
                steps, times, _ = columns
                near = (steps >= one.steps.min()) & (steps <= one.steps.max())
                latest = max(latest, int(times[near].max(initial=latest)))
                rows.setdefault(branch, set()).update(rows_of(columns, near & np.isin(times, one.times)))
    mask = [
        any(point in rows for rows in earlier.values())
        # On a branch without it, it is a new point: what is logged again after a rewind counts.
        and not any(point in rows and point not in earlier.get(branch, ()) for branch, rows in whole.items())
        for point in rows_of((one.steps, one.times, one.values))
    ]
    return Duplicates(np.array(mask, bool), latest)


def _columns(head: int, data: bytes, key: str, below: int) -> Iterable[Columns]:
    return CompactedSegment.from_data(head, data).column(key, below) if head else [read_level0_key(data, key, below)]


def rows_of(columns: Columns, kept: NDArray[np.bool_] | slice = slice(None)) -> list[tuple[int, int, int]]:
    """Return points as (step, time, bits of the value), which are equal if the points are (see `distinct_points`)."""
    steps, times, values = (column[kept] for column in columns)
    bits = np.ascontiguousarray(values, np.float64).view(np.int64)
    return list(zip(steps.tolist(), times.tolist(), bits.tolist(), strict=True))


_LAST_STEPS = """
SELECT (
    SELECT max(s.last_step) FROM segment s
    WHERE s.run_id = asked.run_id AND s.attempt = asked.attempt AND s.rank = asked.rank
      AND s.first_offset < asked.log_offset
      AND s.first_key <= asked.key AND s.last_key >= asked.key
) AS last_step
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[]) WITH ORDINALITY
    AS asked (run_id, key, attempt, rank, log_offset, place)
ORDER BY asked.place
"""
_SEGMENTS = """
SELECT s.branch, s.first_key, s.last_key, s.head, s.data FROM segment s
WHERE s.run_id = $1 AND s.attempt = $2 AND s.rank = $3
  AND s.first_offset <= $4 AND s.last_step >= $5 AND s.first_step <= $6
  AND EXISTS (
    SELECT FROM unnest($7::text[]) AS wanted (key) WHERE s.first_key <= wanted.key AND s.last_key >= wanted.key
  )
"""
