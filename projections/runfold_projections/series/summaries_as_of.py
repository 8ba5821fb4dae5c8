"""Summaries of a run's keys as they were at a moment of the log: recomputed from the points of then."""

import asyncio
from collections.abc import Sequence
from typing import Any

from runfold_projections.history.cutoff import existing_runs, run_end_offset
from runfold_projections.metrics.run_metrics import rows_up_to
from runfold_projections.metrics.summaries import Block, Summaries, Summary
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.segments.compacted import read_located, read_segment
from runfold_projections.segments.frame_groups import join_frames, rows_before
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .keys import KeyFilter, KeySummary, matching
from .latest import LatestMetric, latest_metrics
from .visible_points import VisiblePart, read_run_branches, visible_parts

_AT_ONCE = 32
_Stored = tuple[int | None, int | None, int, bytes]
"""Last effective step, end offset of the points that count (None: no bound), head and data."""


async def blocks_at(connection: Connection, run_id: str, as_of: Vector) -> list[Block]:
    """Return the summaries of a run's visible points, inherited ones too, in blocks. Needs a read transaction.

    The stored blocks are returned if the run inherits nothing and nothing was logged to it since. Otherwise they are
    computed from all points of that time, which takes as long as reading them.
    """
    lines = await read_run_branches(connection, [run_id], as_of)
    own, *more = visible_parts(run_id, lines) or [VisiblePart(run_id, lines[run_id].view(None))]
    end = run_end_offset(as_of, Topic.METRICS, run_id)
    if not more and not await connection.fetchval(_MOVED, run_id, end):
        rows = await connection.fetch(_BLOCKS, run_id)
        return [Block(row["keys"], row["numbers"], row["contexts"]) for row in rows]
    found = Summaries()
    for part in (own, *more):
        end = run_end_offset(as_of, Topic.METRICS, part.owner)
        cursor = await connection.cursor(_SEGMENTS, part.owner, end)
        while rows := await cursor.fetch(_AT_ONCE):
            await asyncio.to_thread(
                _add, found, [stored for row in rows if (stored := _wanted(row, part, end)) is not None]
            )
    return [found.block(number) for number in range(found.blocks)]


def _wanted(row: Any, part: VisiblePart, end: int) -> _Stored | None:
    branch, rank, first_step, last_offset, head, data = row
    limit = part.limit(branch, rank)
    if not part.shows(branch) or (limit is not None and limit < first_step):
        return None
    return (limit, None if last_offset < end else end, head, data)


def _add(found: Summaries, segments: Sequence[_Stored]) -> None:
    frames = []
    for limit, end, head, data in segments:
        if end is None:
            frames += [rows_up_to(frame, limit) for frame in read_segment(head, data)]
        else:
            frames += [rows_up_to(rows_before(*dated, end), limit) for dated in read_located(head, data)]
    for frame in join_frames(frames):
        found.add(frame)


async def latest_at(connection: Connection, run_id: str, as_of: Vector) -> list[LatestMetric]:
    """Return the latest value of each key, ordered by key."""
    found = [metric for block in await blocks_at(connection, run_id, as_of) for metric in latest_metrics(block)]
    return sorted(found, key=lambda metric: metric.key)


async def keys_at(connection: Connection, run_id: str, wanted: KeyFilter, as_of: Vector) -> list[KeySummary] | None:
    """Read as `keys_of_run`, at a moment of the past. Needs a read transaction."""
    if not storable(run_id) or not await existing_runs(connection, [run_id], as_of):
        return None
    found = {key: summary for block in await blocks_at(connection, run_id, as_of) for key, summary in block.summaries()}
    fit = sorted(key for key in found if key.startswith(wanted.prefix) and key > wanted.after)
    rows = await matching(connection, wanted.pattern, _MATCHING, fit, wanted.limit)
    return [_summary(row["key"], found[row["key"]]) for row in rows]


async def keys_of_runs_at(
    connection: Connection, run_ids: Sequence[str], pattern: str, limit: int, as_of: Vector
) -> list[str]:
    """Read as `keys_of_runs`, at a moment of the past. Needs a read transaction."""
    there = await existing_runs(connection, [run_id for run_id in run_ids if storable(run_id)], as_of)
    keys = {key for run_id in there for block in await blocks_at(connection, run_id, as_of) for key in block.keys}
    return [row["key"] for row in await matching(connection, pattern, _MATCHING, sorted(keys), limit)]


def _summary(key: str, summary: Summary) -> KeySummary:
    latest = summary.latest
    return KeySummary(key, latest.value, latest.step, latest.time_ms, summary.least, summary.most)


_MATCHING = """
SELECT key FROM unnest($1::text[]) WITH ORDINALITY AS k (key, place)
WHERE $3::text IS NULL OR key ~ $3 ORDER BY place LIMIT $2
"""
_MOVED = """
SELECT EXISTS (SELECT FROM segment WHERE run_id = $1 AND last_offset >= $2)
    OR EXISTS (SELECT FROM cut WHERE run_id = $1 AND log_offset >= $2)
"""
_BLOCKS = "SELECT keys, numbers, contexts FROM metric_block WHERE run_id = $1 ORDER BY block"
_SEGMENTS = """
SELECT branch, rank, first_step, last_offset, head, data FROM segment WHERE run_id = $1 AND first_offset < $2
"""
