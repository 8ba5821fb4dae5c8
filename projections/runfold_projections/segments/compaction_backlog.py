"""The sources of a partition that have segments to compact, and the next step of it, which runs beside the fold."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Protocol, runtime_checkable

from runfold_projections.postgres.connection import Pool, Queryable

from .compaction import FAN_OUT, BuildSegments, SegmentSource, compact_in_thread, compact_source

QUIET_SECONDS = 60.0
"""Time without new points after which all of a source's segments are compacted."""
BUSY_FACTOR = 4.0
"""While records wait to be folded, a source may have this many times as many segments of level 0 as usual."""
STALL_FACTOR = 8.0
"""With this many times as many segments of level 0 as usual, folding waits for compaction."""
_SOURCES_PER_STEP = 4


@dataclass(slots=True)
class _Level0:
    segments: int = 0
    last_added: float = field(default_factory=time.monotonic)


class CompactionBacklog:
    """The sources of one partition that have segments of level 0, and which of them are due."""

    def __init__(self) -> None:
        self._level0: OrderedDict[SegmentSource, _Level0] = OrderedDict()
        """In the order of their last segment."""
        self._full: set[SegmentSource] = set()

    @property
    def segments(self) -> int:
        """Segments of level 0 beyond what a source may have."""
        return sum(self._level0[source].segments - FAN_OUT[0] + 1 for source in self._full)

    @property
    def worst(self) -> int:
        """Segments of level 0 of the source that has most."""
        return max((self._level0[source].segments for source in self._full), default=0)

    def add(self, source: SegmentSource, segments: int = 1) -> None:
        """Count new segments of level 0."""
        level0 = self._level0.setdefault(source, _Level0())
        level0.segments += segments
        level0.last_added = time.monotonic()
        self._level0.move_to_end(source)
        if level0.segments >= FAN_OUT[0]:
            self._full.add(source)

    def due(self, factor: float = 1.0) -> list[SegmentSource]:
        """List sources with at least `factor` times as many segments as start a compaction, the fullest first."""
        found = [source for source in self._full if self._level0[source].segments >= FAN_OUT[0] * factor]
        return sorted(found, key=lambda source: -self._level0[source].segments)

    def quiet(self) -> Iterator[SegmentSource]:
        """Iterate over sources without new segments for `QUIET_SECONDS`, the quietest first."""
        before = time.monotonic() - QUIET_SECONDS
        return takewhile(lambda source: self._level0[source].last_added < before, self._level0)

    def subtract(self, source: SegmentSource, segments: int, started: float) -> None:
        """Count compacted segments of level 0. A source without new segments since `started` has none left."""
        level0 = self._level0.get(source)
        if level0 is None:
            return
        level0.segments = 0 if level0.last_added < started else max(0, level0.segments - segments)
        if level0.segments < FAN_OUT[0]:
            self._full.discard(source)

    def remove(self, source: SegmentSource, started: float) -> None:
        """Drop a source whose segments were all compacted, unless it has had new ones since `started`."""
        if source in self._level0 and self._level0[source].last_added < started:
            del self._level0[source]
            self._full.discard(source)

    async def load(self, connection: Queryable, partition: int) -> None:
        """Count the segments in the tables of a generation."""
        for row in await connection.fetch(
            """
            SELECT run_id, attempt, rank, branch, count(*) AS segments FROM segment WHERE partition = $1 AND level = 0
            GROUP BY run_id, attempt, rank, branch
            """,
            partition,
        ):
            self.add(SegmentSource(row["run_id"], row["attempt"], row["rank"], row["branch"]), row["segments"])


@runtime_checkable
class Compacting(Protocol):
    """A projector that writes segments, which are compacted afterwards."""

    compaction: "PartitionCompaction"


class PartitionCompaction:
    """Compacts the segments of one partition. The fold adds what it has committed; a step may run beside it."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._backlog: CompactionBacklog | None = None
        self.failed = False
        """The last step failed. A fold that waited for the next one might wait forever."""

    @property
    def stalled(self) -> bool:
        """Whether a source has so many segments that reads would suffer: the fold should wait for a step."""
        return not self.failed and self._backlog is not None and self._backlog.worst >= FAN_OUT[0] * STALL_FACTOR

    def add(self, source: SegmentSource) -> None:
        """Count a committed segment of level 0."""
        if self._backlog is not None:
            self._backlog.add(source)

    def forget(self) -> None:
        """Drop the backlog; the next step loads it from the tables. Must be called after any error of `step`."""
        self._backlog = None

    async def step(self, pool: Pool, *, busy: bool, build: BuildSegments = compact_in_thread) -> tuple[int, int]:
        """Compact some sources that are due; return how many, and how many segments still wait.

        While `busy`, only sources with `BUSY_FACTOR` times as many segments as usual are due.
        """
        backlog = self._backlog
        if backlog is None:
            # Set before it is loaded: what the fold commits meanwhile is counted, at worst twice.
            backlog = self._backlog = CompactionBacklog()
            await backlog.load(pool, self._partition)
        compacted = 0
        for source in backlog.due(BUSY_FACTOR if busy else 1.0)[:_SOURCES_PER_STEP]:
            started = time.monotonic()
            replaced = await compact_source(pool, self._partition, source, build=build)
            backlog.subtract(source, replaced, started)
            compacted += 1
        if not busy and not compacted:
            for source in list(islice(backlog.quiet(), 1)):
                started = time.monotonic()
                await compact_source(pool, self._partition, source, quiet=True, build=build)
                backlog.remove(source, started)
                compacted += 1
        return compacted, backlog.segments
