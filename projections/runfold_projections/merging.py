"""Segments merged in the background, as an LSM tree does it: few large packs by key instead of many small batches.

Level 0 is what one batch of the log held for a source (run, attempt, rank); above it the level tells the size. When a level
has `FAN_OUT` segments they are merged, and so is what a source that has gone quiet has left, unless it is little beside what it
would be merged with. A merge changes how points lie, never which there are, and is one transaction: it removes exactly the
segments that it read, or does nothing.
"""

import asyncio
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from .database import Connection
from .errors import Fenced
from .packs import Packed, build, read_segment
from .rowchange import columns

FAN_OUT = (32, 8, 8, 8)
"""How many segments of level 0, 1, 2, 3 call for a merge. Above are segments of at least `LEVELS[-1]` points."""
LEVELS = (8_192, 65_536, 524_288)
"""Points from which on a merged segment belongs to level 2, 3, 4."""
MOST_POINTS = 4_000_000
"""Points of one merge, at most: 32 MB of values."""
WORTH = 8
"""A quiet source's segments of a level are merged with those below if they have at most so many times their points."""
QUIET = 60.0
"""Seconds after which a source without new points is merged whole."""


class Source(NamedTuple):
    """Whose points a segment holds. Rank -1: the writer named none."""

    run_id: str
    attempt: str
    rank: int


class Segment(NamedTuple):
    """A segment without its data. Packs of one merge share `first_offset`."""

    level: int
    first_offset: int
    points: int


@dataclass(slots=True)
class _Fresh:
    segments: int = 0
    last: float = field(default_factory=time.monotonic)


class Backlog:
    """The sources of one partition that have segments of level 0, and which of them are due."""

    def __init__(self) -> None:
        self._fresh: OrderedDict[Source, _Fresh] = OrderedDict()
        """In the order of their last segment."""
        self._full: set[Source] = set()

    @property
    def segments(self) -> int:
        """Segments of level 0 beyond what a source may have."""
        return sum(self._fresh[source].segments - FAN_OUT[0] + 1 for source in self._full)

    def add(self, source: Source, segments: int = 1) -> None:
        """Note new segments of level 0."""
        fresh = self._fresh.setdefault(source, _Fresh())
        fresh.segments += segments
        fresh.last = time.monotonic()
        self._fresh.move_to_end(source)
        if fresh.segments >= FAN_OUT[0]:
            self._full.add(source)

    def due(self, factor: float = 1.0) -> list[Source]:
        """Sources with at least `factor` times as many segments as call for a merge, the fullest first."""
        found = [source for source in self._full if self._fresh[source].segments >= FAN_OUT[0] * factor]
        return sorted(found, key=lambda source: -self._fresh[source].segments)

    def quiet(self) -> Iterator[Source]:
        """Sources that have had no new segment for a while, the longest first."""
        before = time.monotonic() - QUIET
        return takewhile(lambda source: self._fresh[source].last < before, self._fresh)

    def merged(self, source: Source) -> None:
        """Note that a source has no segments of level 0 any more."""
        if source in self._fresh:
            self._fresh[source].segments = 0
        self._full.discard(source)

    def done(self, source: Source) -> None:
        """Forget a source that was merged whole."""
        self._fresh.pop(source, None)
        self._full.discard(source)

    @classmethod
    async def load(cls, connection: Connection, partition: int) -> "Backlog":
        """From the tables of a generation."""
        backlog = cls()
        for row in await connection.fetch(
            """
            SELECT run_id, attempt, rank, count(*) AS segments FROM segment WHERE partition = $1 AND level = 0
            GROUP BY run_id, attempt, rank
            """,
            partition,
        ):
            backlog.add(Source(row["run_id"], row["attempt"], row["rank"]), row["segments"])
        return backlog


def plan(segments: Iterable[Segment], *, quiet: bool = False) -> tuple[int, int] | None:
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


async def merge_source(connection: Connection, partition: int, source: Source, *, quiet: bool = False) -> int:
    """Merge what is due of a source; answers how many segments there are fewer. Fenced if somebody else merges it, too."""
    rows = await connection.fetch(
        """
        SELECT level, first_offset, points FROM segment WHERE run_id = $1 AND attempt = $2 AND rank = $3
        """,
        *source,
    )
    chosen = plan((Segment(*row) for row in rows), quiet=quiet)
    if chosen is None:
        return 0
    below, level = chosen
    found = await connection.fetch(
        """
        SELECT first_offset, last_offset, first_key, head, data FROM segment
        WHERE run_id = $1 AND attempt = $2 AND rank = $3 AND level < $4 ORDER BY first_offset, first_key
        """,
        *source,
        below,
    )
    packs = await asyncio.to_thread(_merged, [(row["head"], row["data"]) for row in found])
    bounds = min(row["first_offset"] for row in found), max(row["last_offset"] for row in found)
    async with connection.transaction():
        removed = await connection.execute(
            """
            DELETE FROM segment s USING unnest($4::bigint[], $5::text[]) AS old (first_offset, first_key)
            WHERE s.run_id = $1 AND s.attempt = $2 AND s.rank = $3
              AND s.first_offset = old.first_offset AND s.first_key = old.first_key AND s.level < $6
            """,
            *source,
            [row["first_offset"] for row in found],
            [row["first_key"] for row in found],
            below,
        )
        if removed != f"DELETE {len(found)}":
            raise Fenced(f"segments of run {source.run_id} were merged by somebody else")
        await _insert(connection, partition, source, level, bounds, packs)
    return len(found) - len(packs)


def _merged(segments: Sequence[tuple[int, bytes]]) -> list[Packed]:
    return build(frame for head, data in segments for frame in read_segment(head, data))


async def _insert(
    connection: Connection, partition: int, source: Source, level: int, bounds: tuple[int, int], packs: Sequence[Packed]
) -> None:
    rows = [(pack.first_key, pack.last_key, pack.points, pack.head, pack.data) for pack in packs]
    await connection.execute(
        """
        INSERT INTO segment (run_id, attempt, rank, partition, level, first_offset, last_offset,
                             first_key, last_key, points, head, data)
        SELECT $1, $2, $3, $4, $5, $6, $7, pack.*
        FROM unnest($8::text[], $9::text[], $10::integer[], $11::integer[], $12::bytea[]) AS pack
        """,
        *source,
        partition,
        level,
        *bounds,
        *columns(rows),
    )
