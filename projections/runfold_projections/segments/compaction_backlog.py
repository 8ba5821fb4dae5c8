"""Which sources of a partition have segments to merge, and the next step of that work. It goes on beside the fold."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Protocol, runtime_checkable

from runfold_projections.postgres.connection import Pool, Queryable

from .compaction import FAN_OUT, Build, Source, build_in_thread, merge_source

QUIET = 60.0
"""Seconds after which a source without new points is merged whole."""
BUSY_FACTOR = 4.0
"""How many times as many segments as usual a source may have while records wait to be folded."""
CLOGGED_FACTOR = 8.0
"""The same, beyond which folding waits for merging."""
_AT_ONCE = 4


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

    @property
    def worst(self) -> int:
        """Segments of level 0 of the source that has most."""
        return max((self._fresh[source].segments for source in self._full), default=0)

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

    def merged(self, source: Source, segments: int, before: float) -> None:
        """Note that so many segments of level 0 are gone. A source that has had no others since `before` has none any more."""
        fresh = self._fresh.get(source)
        if fresh is None:
            return
        fresh.segments = 0 if fresh.last < before else max(0, fresh.segments - segments)
        if fresh.segments < FAN_OUT[0]:
            self._full.discard(source)

    def done(self, source: Source, before: float) -> None:
        """Forget a source that was merged whole, unless it has had new segments since `before`."""
        if source in self._fresh and self._fresh[source].last < before:
            del self._fresh[source]
            self._full.discard(source)

    async def load(self, connection: Queryable, partition: int) -> None:
        """Add what lies in the tables of a generation."""
        for row in await connection.fetch(
            """
            SELECT run_id, attempt, rank, branch, count(*) AS segments FROM segment WHERE partition = $1 AND level = 0
            GROUP BY run_id, attempt, rank, branch
            """,
            partition,
        ):
            self.add(Source(row["run_id"], row["attempt"], row["rank"], row["branch"]), row["segments"])


@runtime_checkable
class Compacting(Protocol):
    """A projector that writes segments, which are to be compacted."""

    tidying: "Tidying"


class Tidying:
    """Merges the segments of one partition. The fold tells it what it has written; a step may run while the fold goes on."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._backlog: Backlog | None = None
        self.failed = False
        """The last step failed: what waits for merging would wait in vain."""

    @property
    def clogged(self) -> bool:
        """A source has so many segments that reads would suffer: the fold should wait for a step."""
        return not self.failed and self._backlog is not None and self._backlog.worst >= FAN_OUT[0] * CLOGGED_FACTOR

    def add(self, source: Source) -> None:
        """Note a new segment of level 0 that is committed."""
        if self._backlog is not None:
            self._backlog.add(source)

    def forget(self) -> None:
        """Look into the tables again before the next step."""
        self._backlog = None

    async def step(self, pool: Pool, *, busy: bool, build: Build = build_in_thread) -> tuple[int, int]:
        """Merge some sources that are due; answers how many were merged and how many segments wait yet.

        While `busy`, only where too many have gathered. After any error `forget` must be called.
        """
        backlog = self._backlog
        if backlog is None:
            # In its place before it is full: what the fold commits meanwhile is counted, at worst twice.
            backlog = self._backlog = Backlog()
            await backlog.load(pool, self._partition)
        merged = 0
        for source in backlog.due(BUSY_FACTOR if busy else 1.0)[:_AT_ONCE]:
            before = time.monotonic()
            gone = await merge_source(pool, self._partition, source, build=build)
            backlog.merged(source, gone.fresh, before)
            merged += 1
        if not busy and not merged:
            for source in list(islice(backlog.quiet(), 1)):
                before = time.monotonic()
                await merge_source(pool, self._partition, source, quiet=True, build=build)
                backlog.done(source, before)
                merged += 1
        return merged, backlog.segments
