"""What a worker does with the records of a partition. Projections fold them; reactions are in `reaction`."""

from dataclasses import dataclass
from typing import Protocol

from runfold_projections.core.projection import Projection
from runfold_projections.folding.checkpoint import Checkpoint, load
from runfold_projections.folding.decoding import Decoded
from runfold_projections.folding.partition_fold import Applied, PartitionFold
from runfold_projections.generations.generations import Generation
from runfold_projections.postgres.connection import Pool
from runfold_projections.segments.compaction_backlog import PartitionCompaction
from runfold_schemas.positions.position import Partition

METRICS_PAUSE_SECONDS = 0.025
"""No caller waits for a metric's outcome. A strong read cuts this pause short through a read hint."""

ANNOUNCED = frozenset({"live", "standby"})
"""States in which commits are announced to readers. A standby's are, so that none is missed right after a switch."""

MAX_RECORDS = 2_000
"""Records of a batch: one statement commits them in a few tens of ms."""
MAX_METRIC_RECORDS = 8_000
"""Metrics allow more, since small runs that log in turn share the cost of a batch.

Large runs are bounded by the size of a fetch.
"""


@dataclass(frozen=True, slots=True)
class CompactionWork:
    """The compaction of a partition's segments, and the pool to run it with."""

    pool: Pool
    compaction: PartitionCompaction


class Handler(Protocol):
    """One kind of work on one partition. Used by one task only."""

    end_offset: int | None
    """Exclusive offset up to which records are handled, for now or for good; None: no bound."""
    max_pause_seconds: float
    """How long records may gather before they are handled while they come one by one; 0 where callers wait for each."""
    max_records: int
    """Most records of a batch."""

    async def checkpoint(self) -> Checkpoint | None:
        """Return where to continue; None if nothing was handled yet."""

    async def apply(self, before: Checkpoint | None, batch: Decoded) -> Applied:
        """Handle a batch and move the checkpoint. After any error, `forget` is called."""

    def compaction(self) -> CompactionWork | None:
        """Return the compaction that runs beside the folding; None if there is none."""

    def forget(self) -> None:
        """Drop what is held in memory."""


class ProjectionHandler:
    """Folds into one generation. `pool` sees the generation's schema."""

    def __init__(self, pool: Pool, namespace: str, generation: Generation, where: Partition, partitions: int) -> None:
        self._pool, self._where = pool, where
        self._fold = PartitionFold(namespace, generation.projection, where, partitions)
        metrics = generation.projection is Projection.METRICS
        self.max_pause_seconds = METRICS_PAUSE_SECONDS if metrics else 0.0
        self.max_records = MAX_METRIC_RECORDS if metrics else MAX_RECORDS
        self.end_offset: int | None = None
        self.update(generation)

    def update(self, generation: Generation) -> None:
        """Adopt the generation's state and bound, which may change while it is folded."""
        self.end_offset = generation.bound(self._where.partition)
        self._fold.announces = generation.state in ANNOUNCED

    async def checkpoint(self) -> Checkpoint | None:
        async with self._pool.acquire() as connection:
            return await load(connection, self._where)

    async def apply(self, before: Checkpoint | None, batch: Decoded) -> Applied:
        async with self._pool.acquire() as connection:
            return await self._fold.apply(connection, before, batch)

    def compaction(self) -> CompactionWork | None:
        compaction = self._fold.compaction
        return None if compaction is None else CompactionWork(self._pool, compaction)

    def forget(self) -> None:
        self._fold.forget()
