"""Metric points and summaries as canonical rows: out of the arrays that pack them.

Each point counts once, with NaN and -0.0 as their bits; for a run that something was cut off from, each with its
branch.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold_projections.core.canonical import Group, Packed, Row
from runfold_projections.postgres.connection import LONG_READ_SECONDS, Connection
from runfold_projections.segments.compacted import read_segment
from runfold_projections.segments.distinct_points import Columns, distinct_points

from .summaries import Block

_SEGMENTS_AT_ONCE = 16
_BLOCKS_AT_ONCE = 200


async def _point_groups(connection: Connection) -> AsyncIterator[Group]:
    name: tuple[str, str, int] | None = None
    parts: list[_Series] = []
    async for run_id, attempt, rank, branch, is_cut, head, data in connection.cursor(
        """
        SELECT run_id, attempt, rank, branch, EXISTS (SELECT FROM cut c WHERE c.run_id = s.run_id), head, data
        FROM segment s ORDER BY run_id, attempt, rank
        """,
        prefetch=_SEGMENTS_AT_ONCE,
        timeout=LONG_READ_SECONDS,
    ):
        if name != (run_id, attempt, rank):
            if name is not None:
                yield _point_group(name, parts)
            name, parts = (run_id, attempt, rank), []
        # Where nothing was cut off, a point counts once, whichever branches it was logged on.
        parts += _series(read_segment(head, data), branch if is_cut else None)
    if name is not None:
        yield _point_group(name, parts)


_Series = tuple[tuple[Any, ...], Columns]


def _series(frames: Iterable[Any], branch: int | None) -> list[_Series]:
    found: list[_Series] = []
    suffix = () if branch is None else (branch,)
    for frame in frames:
        if not frame.rows or not frame.keys:
            continue
        context = (frame.model_id or "", frame.dataset_name or "", frame.dataset_digest or "")
        steps, times = np.frombuffer(frame.steps, np.int64), np.frombuffer(frame.times, np.int64)
        values: NDArray[np.float64] = (
            np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys)).T.copy()
        )
        # All NaNs count as equal: nobody sees their bits.
        values[np.isnan(values)] = np.nan
        found += [((key, *context, *suffix), (steps, times, row)) for key, row in zip(frame.keys, values, strict=True)]
    return found


def _point_group(name: tuple[str, str, int], parts: Sequence[_Series]) -> Group:
    pieces: dict[tuple[Any, ...], list[Columns]] = {}
    for key, columns in parts:
        pieces.setdefault(key, []).append(columns)
    series = [(key, distinct_points(found)) for key, found in sorted(pieces.items())]
    digest = hashlib.sha256()
    for key, columns in series:
        digest.update(repr((*key, len(columns[0]))).encode())
        for column in columns:
            digest.update(np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    return Group(name, digest.digest(), lambda: _point_rows(name, series))


def _point_rows(name: tuple[str, str, int], series: Sequence[_Series]) -> Iterable[Row]:
    for (key, *context), (steps, times, values) in series:
        for step, time, value in zip(steps.tolist(), times.tolist(), values.tolist(), strict=True):
            yield (*name, key, step, time, value.hex(), *context)


async def _summary_groups(connection: Connection) -> AsyncIterator[Group]:
    of: str | None = None
    blocks: list[Block] = []
    async for run_id, keys, numbers, contexts in connection.cursor(
        "SELECT run_id, keys, numbers, contexts FROM metric_block ORDER BY run_id, block",
        prefetch=_BLOCKS_AT_ONCE,
        timeout=LONG_READ_SECONDS,
    ):
        if of != run_id:
            if of is not None:
                yield _summary_group(of, blocks)
            of, blocks = run_id, []
        blocks.append(Block(tuple(keys), numbers, contexts))
    if of is not None:
        yield _summary_group(of, blocks)


def _summary_group(run_id: str, blocks: Sequence[Block]) -> Group:
    # Keys are stored in the order of their arrival, which is no state.
    names = [key for block in blocks for key in block.keys]
    order = sorted(range(len(names)), key=names.__getitem__)
    digest = hashlib.sha256(repr([names[at] for at in order]).encode())
    for column in zip(*(block.columns() for block in blocks), strict=True):
        joined = np.concatenate(column)[order]
        if joined.dtype.kind == "f":
            joined[np.isnan(joined)] = np.nan
        digest.update(joined.astype(joined.dtype.newbyteorder("<"), copy=False).tobytes())
    contexts = sorted((block.keys[place], tuple(context)) for block in blocks for place, context in block.placed())
    digest.update(repr(contexts).encode())
    return Group((run_id,), digest.digest(), lambda: _summary_rows(run_id, blocks))


def _summary_rows(run_id: str, blocks: Sequence[Block]) -> Iterable[Row]:
    for key, summary in sorted(
        ((key, summary) for block in blocks for key, summary in block.summaries()), key=lambda pair: pair[0]
    ):
        latest = summary.latest
        extremes = (None if bound is None else repr(bound) for bound in (summary.least, summary.most))
        context = (latest.model_id, latest.dataset_name, latest.dataset_digest)
        yield (run_id, key, repr(latest.value), latest.step, latest.time_ms, *extremes, *context)


async def _points(connection: Connection) -> AsyncIterator[Row]:
    run_ids = [row["run_id"] for row in await connection.fetch("SELECT DISTINCT run_id FROM segment ORDER BY run_id")]
    cut = {row["run_id"] for row in await connection.fetch("SELECT DISTINCT run_id FROM cut")}
    for run_id in run_ids:
        points = set()
        for row in await connection.fetch(
            "SELECT attempt, rank, branch, head, data FROM segment WHERE run_id = $1", run_id
        ):
            branch = (row["branch"],) if run_id in cut else ()
            for frame in read_segment(row["head"], row["data"]):
                context = (frame.model_id or "", frame.dataset_name or "", frame.dataset_digest or "")
                width = len(frame.keys)
                for at, value in enumerate(frame.values):
                    place, column = divmod(at, width)
                    points.add(
                        (
                            row["attempt"],
                            row["rank"],
                            frame.keys[column],
                            frame.steps[place],
                            frame.times[place],
                            value.hex(),
                            *context,
                            *branch,
                        )
                    )
        for point in sorted(points):
            yield (run_id, *point)


async def _summaries(connection: Connection) -> AsyncIterator[Row]:
    run_ids = [
        row["run_id"] for row in await connection.fetch("SELECT DISTINCT run_id FROM metric_block ORDER BY run_id")
    ]
    for run_id in run_ids:
        rows = await connection.fetch("SELECT keys, numbers, contexts FROM metric_block WHERE run_id = $1", run_id)
        blocks = [Block(tuple(row["keys"]), row["numbers"], row["contexts"]) for row in rows]
        for key, (latest, least, most) in sorted((key, astuple(s)) for block in blocks for key, s in block.summaries()):
            value, step, time_ms, *context = latest
            extremes = (None if bound is None else repr(bound) for bound in (least, most))
            yield (run_id, key, repr(value), step, time_ms, *extremes, *context)


_CONTEXT = ("model_id", "dataset_name", "dataset_digest")
_POINT = ("run_id", "attempt", "rank", "key", "step", "time_ms", "value", *_CONTEXT, "branch")
POINTS = Packed(
    "point",
    _POINT,
    _POINT,
    _point_groups,
    _points,
)
SUMMARIES = Packed(
    "metric",
    ("run_id", "key", "value", "step", "time_ms", "min_value", "max_value", *_CONTEXT),
    ("run_id", "key"),
    _summary_groups,
    _summaries,
)
