"""What a worker does with the records of a partition: projections keep a state, reactions act on the world.

A projection's checkpoint lies beside its rows in its generation, so a new generation folds the log from the start. A
reaction's cursor lies in the control schema: a replay never makes it fire again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runfold_projections.control import cursors
from runfold_projections.core.projection import Projection
from runfold_projections.folding.checkpoint import Checkpoint, load
from runfold_projections.folding.partition_fold import Applied, Decoded, PartitionFold, begin
from runfold_projections.generations.generations import Generation
from runfold_projections.segments.compaction_backlog import PartitionCompaction
from runfold_schemas.codec.record import Record
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition

MOST_REST = 0.025
"""For metrics: nobody waits for their outcome, and a strong read that has to wait ends the rest (see wanted.py)."""

REACTION_REST = 0.1
"""For reactions: no caller waits for them, and each batch costs them as much as the fold's. The first event after a silence does not rest."""

ANNOUNCED = frozenset({"live", "standby"})
"""States in which commits are told to readers. A standby's are, so that none is missing right after a switch."""

MOST_RECORDS = 2_000
MOST_METRIC_RECORDS = 8_000
"""Of metrics more, since small runs that log in turn share what a batch costs each of them. Large ones are bounded by what a fetch brings."""


@dataclass(frozen=True, slots=True)
class Tidy:
    """Merging of a partition's segments, and the pool to do it with."""

    pool: Any
    compaction: PartitionCompaction


class Handler(Protocol):
    """One kind of work on one partition. Used by one task only."""

    until: int | None
    """Next offset beyond which nothing is handled, for the time being or for ever; None: no bound."""
    most_rest: float
    """Seconds that records may gather before they are handled, while they come one by one; 0 where callers wait for each."""

    most_records: int
    """Records of a batch, at most."""

    async def checkpoint(self) -> Checkpoint | None:
        """Where to go on; None at the very beginning."""

    async def apply(self, before: Checkpoint | None, batch: Decoded) -> Applied:
        """Do the work of a batch and move the checkpoint. After any error `forget` is called."""

    def compaction(self) -> Tidy | None:
        """Work that goes on beside the folding; None if there is none."""

    def forget(self) -> None:
        """Drop what is held in memory."""


class ProjectionHandler:
    """Folds into one generation. `pool` sees the generation's schema."""

    def __init__(self, pool: Any, namespace: str, generation: Generation, where: Partition, partitions: int) -> None:
        self._pool, self._where = pool, where
        self._fold = PartitionFold(namespace, generation.projection, where, partitions)
        metrics = generation.projection is Projection.METRICS
        self.most_rest = MOST_REST if metrics else 0.0
        self.most_records = MOST_METRIC_RECORDS if metrics else MOST_RECORDS
        self.until: int | None = None
        self.told(generation)

    def told(self, generation: Generation) -> None:
        """What the control schema says of the generation now."""
        self.until = generation.bound(self._where.partition)
        self._fold.announces = generation.state in ANNOUNCED

    async def checkpoint(self) -> Checkpoint | None:
        async with self._pool.acquire() as connection:
            return await load(connection, self._where)

    async def apply(self, before: Checkpoint | None, batch: Decoded) -> Applied:
        async with self._pool.acquire() as connection:
            return await self._fold.apply(connection, before, batch)

    def compaction(self) -> Tidy | None:
        compaction = self._fold.compaction
        return None if compaction is None else Tidy(self._pool, compaction)

    def forget(self) -> None:
        self._fold.forget()


class Reaction(Protocol):
    """Acts on the outside world, at least once per event and never because of a replay."""

    name: str

    async def react(self, pool: Any, records: Sequence[Record]) -> None:
        """Act; `pool` sees the control schema. If it raises, the same records come again after a pause; the cursor moves only after success.

        What it commits there lies before the cursor's move in Postgres's own log: a crash takes back no work whose cursor stays.
        """


@dataclass
class ReactionHandler:
    """Runs a reaction over one partition. `pool` sees the control schema."""

    pool: Any
    reaction: Reaction
    where: Partition
    partitions: int
    until: int | None = None
    most_rest: float = REACTION_REST
    most_records: int = MOST_RECORDS

    async def checkpoint(self) -> Checkpoint | None:
        async with self.pool.acquire() as connection:
            return await cursors.load(connection, self.reaction.name, self.where)

    async def apply(self, before: Checkpoint | None, batch: Decoded) -> Applied:
        after, records, _ = begin(self.where, self.partitions, before, batch)
        if after is None:
            return Applied(None, 0, 0, 0, {})
        events = [r for r in records if not isinstance(r.event, Genesis)]
        if events:
            await self.reaction.react(self.pool, events)
        async with self.pool.acquire() as connection:
            await cursors.advance(connection, self.reaction.name, self.where, before, after)
        return Applied(after, len(events), 0, 0, {})

    def compaction(self) -> Tidy | None:
        return None

    def forget(self) -> None:
        """Nothing is held."""
