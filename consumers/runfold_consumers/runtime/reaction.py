"""Reactions: work on the outside world that events cause, such as webhooks.

A projection's checkpoint is in its generation, so a new generation folds the log from the start. A reaction's cursor is
in the control schema: a replay never makes it act again.
"""

from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from runfold_log.cluster import KafkaCluster
from runfold_projections.control import cursors
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.folding.decoding import Decoded, begin
from runfold_projections.folding.partition_fold import Applied
from runfold_projections.postgres.connection import Pool
from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.codec.record import Record
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

from .handlers import MAX_RECORDS, CompactionWork

REACTION_PAUSE_SECONDS = 0.1
"""No caller waits for a reaction, and each of its batches costs as much as a fold's.

The first event after a silence does not pause.
"""


@dataclass(frozen=True, slots=True)
class ReactionServices:
    """What a worker gives to the background tasks of its reactions."""

    kafka: KafkaCluster
    dsn: str
    namespace: str
    catalog: Catalog
    registry: CollectorRegistry
    """The worker's Prometheus registry, for the reaction's own metrics."""


class Reaction(Protocol):
    """Acts on the outside world, at least once per event and never because of a replay.

    A reaction brings everything a worker needs: its topics, the name of its cursor, its background tasks and their
    metrics. Its settings are its own fields. Workers take a list of reactions, which `runfold_stack.programs.worker`
    makes.
    """

    name: str
    """Names its cursors and leases. A reaction with a new name starts at the beginning of the log."""
    topics: Collection[Topic]

    async def react(self, pool: Pool, records: Sequence[Record]) -> None:
        """Act on the events of one partition; `pool` sees the control schema.

        If it raises, the same records come again after a pause: the cursor moves only after success. What it commits
        precedes the cursor's move in Postgres's WAL, so a crash never loses work whose cursor has moved.
        """

    def background_tasks(self, services: ReactionServices) -> Sequence[Coroutine[Any, Any, None]]:
        """Return coroutines that run in every live worker until it stops."""
        return ()


_PREFIX = "reaction "


def handler_name(reaction: Reaction) -> str:
    """Return the name under which leases and metrics list the reaction."""
    return _PREFIX + reaction.name


def is_reaction(handler: str) -> bool:
    """Return whether a handler's name is a reaction's. All others are schemas of generations."""
    return handler.startswith(_PREFIX)


@dataclass
class ReactionHandler:
    """Runs a reaction over one partition. `pool` sees the control schema."""

    pool: Pool
    reaction: Reaction
    where: Partition
    partitions: int
    end_offset: int | None = None
    max_pause_seconds: float = REACTION_PAUSE_SECONDS
    max_records: int = MAX_RECORDS

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

    def compaction(self) -> CompactionWork | None:
        return None

    def forget(self) -> None:
        """Do nothing: a reaction keeps no state in memory."""
