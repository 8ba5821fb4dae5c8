"""Summaries of points in the tables, read segment by segment: what a cut has left of a run, what a fork has of its parents."""

import asyncio
from collections.abc import Mapping, Sequence

from runfold_projections.postgres.connection import Connection
from runfold_projections.segments.level0 import merge
from runfold_projections.segments.packs import read_segment

from .run_metrics import rows_up_to
from .summaries import Summaries

LAST_STEP = 2**63 - 1
_POINTS_AT_ONCE = 2_000_000
"""Points that are decoded together, unless a single segment has more: it may have 32 MB."""
_MOST_AT_ONCE = 256

Limits = Mapping[tuple[int, int], int | None]
"""Per branch and rank the last step that counts; None: all do."""


async def summed_up(
    connection: Connection, run_id: str, limits: Limits, keys: tuple[str, str] | None = None
) -> Summaries:
    """Sum up what these branches and ranks of a run hold in the tables, up to their limits.

    `keys`: the least and the greatest key that matter; others may be among what is found. The segments come one after another, those
    beyond the limits not at all.
    """
    found = Summaries()
    if not limits:
        return found
    largest = await connection.fetchval("SELECT max(points) FROM segment WHERE run_id = $1", run_id) or 1
    at_once = min(max(1, _POINTS_AT_ONCE // largest), _MOST_AT_ONCE)
    first, last = keys or (None, None)
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(
            """
            SELECT s.branch, s.rank, s.head, s.data
            FROM segment s
            JOIN unnest($2::integer[], $3::integer[], $4::bigint[]) AS shown (branch, rank, last) USING (branch, rank)
            WHERE s.run_id = $1 AND s.first_step <= shown.last
              AND ($5::text IS NULL OR s.last_key >= $5) AND ($6::text IS NULL OR s.first_key <= $6)
            """,
            run_id,
            [branch for branch, _ in limits],
            [rank for _, rank in limits],
            [LAST_STEP if limit is None else limit for limit in limits.values()],
            first,
            last,
        )
        while rows := await cursor.fetch(at_once):
            segments = [(limits[row["branch"], row["rank"]], row["head"], row["data"]) for row in rows]
            await asyncio.to_thread(_add, found, segments)
    return found


def _add(found: Summaries, segments: Sequence[tuple[int | None, int, bytes]]) -> None:
    frames = (rows_up_to(frame, limit) for limit, head, data in segments for frame in read_segment(head, data))
    for frame in merge(frames):
        found.add(frame)
