"""Summaries recomputed from the points in the tables, segment by segment: after a cut of a run, or for a fork's
parents.
"""

import asyncio
from collections.abc import Mapping, Sequence

from runfold_projections.postgres.connection import Connection
from runfold_projections.segments.compacted import read_segment
from runfold_projections.segments.frame_groups import join_frames

from .run_metrics import rows_up_to
from .summaries import Summaries

LAST_STEP = 2**63 - 1
_POINTS_AT_ONCE = 2_000_000
"""Points decoded together, unless a single segment has more (up to 32 MB)."""
_MOST_AT_ONCE = 256

Limits = Mapping[tuple[int, int], int | None]
"""Last step that counts per branch and rank; None: all count."""


async def summed_up(
    connection: Connection, run_id: str, limits: Limits, keys: tuple[str, str] | None = None
) -> Summaries:
    """Summarize the points of these branches and ranks of a run, up to their limits.

    `keys` are the least and the greatest key of interest; the result may contain others. Segments are read one after
    another, those beyond the limits not at all.
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
    for frame in join_frames(frames):
        found.add(frame)
