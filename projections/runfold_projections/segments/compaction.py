"""Segments merged in the background, as an LSM tree does it: few large packs by key instead of many small batches.

Level 0 is what one batch of the log held for a source (run, attempt, rank, branch); above it the level tells the size. When a level
has `FAN_OUT` segments they are merged, and so is what a source that has gone quiet has left, unless it is little beside what it
would be merged with. A merge changes how points lie, never which there are, and is one transaction: it removes exactly the
segments that it read, or does nothing.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from runfold_projections.core.errors import Fenced
from runfold_projections.postgres.batch_statement import columns
from runfold_projections.postgres.connection import Connection, Pool

from .packs import NewSegment, build_located, read_located

FAN_OUT = (32, 8, 8, 8)
"""How many segments of level 0, 1, 2, 3 call for a merge. Above are segments of at least `LEVELS[-1]` points."""
LEVELS = (8_192, 65_536, 524_288)
"""Points from which on a merged segment belongs to level 2, 3, 4."""
MOST_POINTS = 4_000_000
"""Points of one merge, at most: 32 MB of values."""
WORTH = 8
"""A quiet source's segments of a level are merged with those below if they have at most so many times their points."""


class SegmentSource(NamedTuple):
    """Whose points a segment holds. Rank -1: the writer named none."""

    run_id: str
    attempt: str
    rank: int
    branch: int = 0


StoredSegment: TypeAlias = tuple[int, bytes]
"""A segment's `head` and `data`."""
BuildSegments: TypeAlias = Callable[[Sequence[StoredSegment]], Awaitable[list[NewSegment]]]
"""Makes packs of segments, somewhere."""


class Merged(NamedTuple):
    """What a merge did: how many segments of level 0 it took away, and how many segments there are fewer."""

    fresh: int
    fewer: int


class SegmentSize(NamedTuple):
    """A segment without its data. Packs of one merge share `first_offset`."""

    level: int
    first_offset: int
    points: int


def plan_compaction(segments: Iterable[SegmentSize], *, quiet: bool = False) -> tuple[int, int] | None:
    """The level below which all is merged, and the level it becomes; None if nothing is to be gained.

    Levels above are taken along while they are full, or small beside what is below and the source is `quiet`.
    """
    counts: dict[int, set[int]] = {}
    points: dict[int, int] = {}
    for segment in segments:
        counts.setdefault(segment.level, set()).add(segment.first_offset)
        points[segment.level] = points.get(segment.level, 0) + segment.points
    below, taken, total = 0, 0, 0
    while below <= len(FAN_OUT) and total + points.get(below, 0) <= MOST_POINTS:
        own = len(counts.get(below, ()))
        full = below < len(FAN_OUT) and own + (taken > 0) >= FAN_OUT[below]
        small = quiet and (not total or points.get(below, 0) <= WORTH * total)
        if below and not (full or small):
            break
        taken += own
        total += points.get(below, 0)
        below += 1
    return (below, 1 + bisect_right(LEVELS, total)) if taken > 1 else None


async def compact_in_thread(segments: Sequence[StoredSegment]) -> list[NewSegment]:
    """A `Build` for one's own process."""
    return await asyncio.to_thread(compact_segments, segments)


def compact_segments(segments: Sequence[StoredSegment]) -> list[NewSegment]:
    """The packs that take the place of these segments."""
    return build_located(dated for head, data in segments for dated in read_located(head, data))


async def compact_source(
    pool: Pool, partition: int, source: SegmentSource, *, quiet: bool = False, build: BuildSegments = compact_in_thread
) -> Merged:
    """Merge what is due of a source. Fenced if somebody else merges it, too.

    No connection is held while the packs are built.
    """
    rows = await pool.fetch(
        """
        SELECT level, first_offset, points FROM segment WHERE run_id = $1 AND attempt = $2 AND rank = $3 AND branch = $4
        """,
        *source,
    )
    chosen = plan_compaction((SegmentSize(*row) for row in rows), quiet=quiet)
    if chosen is None:
        return Merged(0, 0)
    below, level = chosen
    found = await pool.fetch(
        """
        SELECT level, first_offset, last_offset, first_step, last_step, first_key, head, data FROM segment
        WHERE run_id = $1 AND attempt = $2 AND rank = $3 AND branch = $4 AND level < $5 ORDER BY first_offset, first_key
        """,
        *source,
        below,
    )
    packs = await build([(row["head"], row["data"]) for row in found])
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
            below,
        )
        if removed != f"DELETE {len(found)}":
            raise Fenced(f"segments of run {source.run_id} were merged by somebody else")
        await _insert(connection, partition, source, level, bounds, packs)
    return Merged(sum(row["level"] == 0 for row in found), len(found) - len(packs))


async def _insert(
    connection: Connection,
    partition: int,
    source: SegmentSource,
    level: int,
    bounds: tuple[int, int, int, int],
    packs: Sequence[NewSegment],
) -> None:
    rows = [(pack.first_key, pack.last_key, pack.points, pack.head, pack.data) for pack in packs]
    await connection.execute(
        """
        INSERT INTO segment (run_id, attempt, rank, branch, partition, level, first_offset, last_offset, first_step, last_step,
                             first_key, last_key, points, head, data)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, pack.*
        FROM unnest($11::text[], $12::text[], $13::integer[], $14::integer[], $15::bytea[]) AS pack
        """,
        *source,
        partition,
        level,
        *bounds,
        *columns(rows),
    )
