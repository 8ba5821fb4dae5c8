"""Compaction of segments in the background, as in an LSM tree: few large segments by key instead of many small batches.

Level 0 holds what one batch of the log had for a source (run, attempt, rank, branch); higher levels are of larger
segments. A level that has `FAN_OUT` segments is compacted, and so are the segments of a source that has gone quiet,
unless they are small compared with those they would join. Compaction changes how points are stored, never which points
there are. It is one transaction, which replaces exactly the segments that it read, or changes nothing.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from runfold_projections.core.errors import Fenced
from runfold_projections.postgres.batch_statement import columns
from runfold_projections.postgres.connection import Connection, Pool

from .compacted import read_located
from .compacted_builder import NewSegment, build_located

FAN_OUT = (32, 8, 8, 8)
"""Segments of level 0, 1, 2 and 3 that start a compaction. Level 4 has segments of at least `LEVELS[-1]` points."""
LEVELS = (8_192, 65_536, 524_288)
"""Least points of a segment of level 2, 3 and 4."""
MOST_POINTS = 4_000_000
"""Points of one compaction: 32 MB of values."""
QUIET_RATIO = 8
"""A quiet source's level is compacted with those below if it has at most this many times their points."""


class SegmentSource(NamedTuple):
    """The writer of a segment's points. Rank -1: the writer named none."""

    run_id: str
    attempt: str
    rank: int
    branch: int = 0


StoredSegment: TypeAlias = tuple[int, bytes]
"""A segment's `head` and `data`."""
BuildSegments: TypeAlias = Callable[[Sequence[StoredSegment]], Awaitable[list[NewSegment]]]
"""Compacts segments, in a thread or in another process."""


class SegmentSize(NamedTuple):
    """A segment without its data. Segments of one compaction share `first_offset`."""

    level: int
    first_offset: int
    points: int


def plan_compaction(segments: Iterable[SegmentSize], *, quiet: bool = False) -> tuple[int, int] | None:
    """Choose the level below which all segments are compacted, and the level of the result; None if nothing is due.

    Levels above join in while they are full, or small compared with those below if the source is `quiet`.
    """
    counts: dict[int, set[int]] = {}
    points: dict[int, int] = {}
    for segment in segments:
        counts.setdefault(segment.level, set()).add(segment.first_offset)
        points[segment.level] = points.get(segment.level, 0) + segment.points
    end_level, chosen, total = 0, 0, 0
    while end_level <= len(FAN_OUT) and total + points.get(end_level, 0) <= MOST_POINTS:
        own = len(counts.get(end_level, ()))
        full = end_level < len(FAN_OUT) and own + (chosen > 0) >= FAN_OUT[end_level]
        small = quiet and (not total or points.get(end_level, 0) <= QUIET_RATIO * total)
        if end_level and not (full or small):
            break
        chosen += own
        total += points.get(end_level, 0)
        end_level += 1
    return (end_level, 1 + bisect_right(LEVELS, total)) if chosen > 1 else None


async def compact_in_thread(segments: Sequence[StoredSegment]) -> list[NewSegment]:
    """Compact in a thread of this process."""
    return await asyncio.to_thread(compact_segments, segments)


def compact_segments(segments: Sequence[StoredSegment]) -> list[NewSegment]:
    """Build the segments that replace these."""
    return build_located(located for head, data in segments for located in read_located(head, data))


async def compact_source(
    pool: Pool,
    partition: int,
    source: SegmentSource,
    *,
    quiet: bool = False,
    build: BuildSegments = compact_in_thread,
) -> int:
    """Compact what is due of a source and return how many segments of level 0 were replaced.

    Fenced if another worker compacts the source too. Holds no connection while the segments are built.
    """
    sizes = await pool.fetch(
        """
        SELECT level, first_offset, points FROM segment WHERE run_id = $1 AND attempt = $2 AND rank = $3 AND branch = $4
        """,
        *source,
    )
    chosen = plan_compaction((SegmentSize(*row) for row in sizes), quiet=quiet)
    if chosen is None:
        return 0
    end_level, level = chosen
    found = await pool.fetch(
        """
        SELECT level, first_offset, last_offset, first_step, last_step, first_key, head, data FROM segment
        WHERE run_id = $1 AND attempt = $2 AND rank = $3 AND branch = $4 AND level < $5 ORDER BY first_offset, first_key
        """,
        *source,
        end_level,
    )
    built = await build([(row["head"], row["data"]) for row in found])
    bounds = (
        min(row["first_offset"] for row in found),
        max(row["last_offset"] for row in found),
        min(row["first_step"] for row in found),
        max(row["last_step"] for row in found),
    )
    async with pool.acquire() as connection, connection.transaction():
        removed = await connection.execute(
            """
            DELETE FROM segment s USING unnest($5::bigint[], $6::text[]) AS old (first_offset, first_key)
            WHERE s.run_id = $1 AND s.attempt = $2 AND s.rank = $3 AND s.branch = $4
              AND s.first_offset = old.first_offset AND s.first_key = old.first_key AND s.level < $7
            """,
            *source,
            [row["first_offset"] for row in found],
            [row["first_key"] for row in found],
            end_level,
        )
        if removed != f"DELETE {len(found)}":
            raise Fenced(f"another worker compacted segments of run {source.run_id}")
        await _insert(connection, partition, source, level, bounds, built)
    return sum(row["level"] == 0 for row in found)


async def _insert(
    connection: Connection,
    partition: int,
    source: SegmentSource,
    level: int,
    bounds: tuple[int, int, int, int],
    segments: Sequence[NewSegment],
) -> None:
    rows = [(one.first_key, one.last_key, one.points, one.head, one.data) for one in segments]
    await connection.execute(
        """
        INSERT INTO segment (run_id, attempt, rank, branch, partition, level, first_offset, last_offset,
                             first_step, last_step, first_key, last_key, points, head, data)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, new.*
        FROM unnest($11::text[], $12::text[], $13::integer[], $14::integer[], $15::bytea[]) AS new
        """,
        *source,
        partition,
        level,
        *bounds,
        *columns(rows),
    )
