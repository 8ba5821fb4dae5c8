"""Reads that see every acknowledged write, and reads that do not wait.

A strong read is Raft's ReadIndex over the log: take the partitions' ends, wait until the folds' checkpoints have passed
them, read rows and checkpoints in one snapshot.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from runfold_projections.operations.outcomes import Refused, outcomes
from runfold_projections.postgres.connection import Connection
from runfold_projections.postgres.read_transaction import checkpoints, reached
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import PARTITIONED, Topic, partition_of
from runfold_schemas.positions.vector import Vector
from runfold_server.core.coalescing import Coalescer
from runfold_server.core.database import Database
from runfold_server.core.errors import Unavailable
from runfold_server.core.metrics import ServerMetrics
from runfold_server.core.outages import STALE
from runfold_server.freshness.end_offsets import EndOffsets
from runfold_server.freshness.fold_progress import POLL, Progress
from runfold_server.freshness.read_hints import Urge

GATHERING = Topic.METRICS
"""Where workers let records gather for a moment if nobody waits for them."""
T = TypeVar("T")
Query = Callable[[Connection], Awaitable[T]]
Positions = Mapping[Partition, int]
Outcome = tuple[int, Refused | None]
"""A checkpoint (next offset), and what an event that it has passed was refused for."""
Scope = Callable[[Positions], Positions]
"""Picks, from the ends of all partitions, those that a read depends on."""


@dataclass(frozen=True, slots=True)
class Shown(Generic[T]):
    """An answer and the checkpoints (next offsets) of the snapshot it comes from."""

    value: T
    positions: Mapping[Partition, int]

    def said(self) -> dict[str, int]:
        """The positions as answers say them."""
        return {str(where): offset for where, offset in sorted(self.positions.items())}


class Consistency(StrEnum):
    """What a native read promises: all that was acknowledged before it began, or what is folded by now."""

    STRONG = "strong"
    EVENTUAL = "eventual"


class Behind(Unavailable):
    """The folds did not reach a position in time."""


class Reader:
    """Runs queries in snapshots. `wait` bounds, in seconds, how long a strong read waits for the folds."""

    def __init__(
        self,
        database: Database,
        ends: EndOffsets,
        progress: Progress,
        observed: ServerMetrics,
        urge: Urge,
        *,
        wait: float,
    ) -> None:
        self._database, self._ends, self._progress = database, ends, progress
        self._observed, self._urge = observed, urge
        self._wait = wait
        self._outcomes: defaultdict[Partition, Coalescer[Position, Outcome]] = defaultdict(
            lambda: Coalescer(self._look_at_outcomes)
        )

    async def strong(self, scope: Scope, query: Query[T], also: Callable[[T], Scope] | None = None) -> Shown[T]:
        """What the query finds in a snapshot that holds every write acknowledged before this call.

        What it has found may show that more partitions matter: `also` says which, and the query is asked again if need be.
        Unavailable if Kafka or Postgres is away, or the folds are too far behind.
        """
        began = time.perf_counter()
        ends = await self._ends.now()
        shown = await self.at(scope(ends), query, None if also is None else lambda value: also(value)(ends))
        self._observed.strong_read(time.perf_counter() - began)
        return shown

    async def read(
        self,
        consistency: Consistency,
        scope: Scope,
        query: Query[T],
        also: Callable[[T], Scope] | None = None,
        as_of: Vector | None = None,
    ) -> Shown[T]:
        """A strong read or an eventual one, as the caller asked; one about the past is neither."""
        if as_of is not None or consistency is Consistency.STRONG:
            return await self.asked(as_of, scope, query, also)
        return await self.eventual(query)

    async def eventual(self, query: Query[T]) -> Shown[T]:
        """What the query finds in a snapshot of now, however far the folds are."""
        return await _again_if_stale(lambda: self._try(query))

    async def at(
        self, want: Mapping[Partition, int], query: Query[T], also: Callable[[T], Positions] | None = None
    ) -> Shown[T]:
        """What the query finds in a snapshot whose checkpoints have passed the wanted ends (next offsets), and those that `also` adds."""
        wanted = dict(want)
        return await self._until(wanted, lambda: self._try_at(wanted, query, also))

    async def asked(
        self, as_of: Vector | None, scope: Scope, query: Query[T], also: Callable[[T], Scope] | None = None
    ) -> Shown[T]:
        """A strong read; or, about a moment of the past, what the query finds in a snapshot whose folds have passed the vector: what there
        is beyond it, the query has to leave out. It then shows the vector's positions."""
        if as_of is None:
            return await self.strong(scope, query, also)
        shown = await self.at(scope(as_of), query, None if also is None else lambda value: also(value)(as_of))
        return Shown(shown.value, as_of)

    async def outcome(self, position: Position) -> Refused | None:
        """Why the event at this position had no effect, once it is folded; None: it was accepted. Cheaper than a snapshot, and one statement
        answers all who wait for the same partition at the same time."""
        want = {position.where: position.offset + 1}
        return (await self._until(want, lambda: self._try_outcome(position))).value

    async def outcome_then(self, position: Position, query: Query[T]) -> Refused | T:
        """`outcome`, and if it was accepted, what the query finds after that. Only for a query of one statement: it has no snapshot."""
        want = {position.where: position.offset + 1}
        return (await self._until(want, lambda: self._try_outcome_then(position, query))).value

    async def _until(
        self, want: Mapping[Partition, int], attempt: Callable[[], Awaitable[Shown[T] | Positions]]
    ) -> Shown[T]:
        deadline = time.monotonic() + self._wait
        self._urge.say(
            {
                where: end
                for where, end in want.items()
                if where.topic is GATHERING and self._progress.known.get(where, 0) < end
            }
        )
        await self._progress.reach(want, min(POLL, self._wait))
        while True:
            version = self._progress.version
            found = await _again_if_stale(attempt)
            if isinstance(found, Shown):
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise Behind(_behind(found, want, self._wait))
            await self._progress.moved(version, left)
            await self._progress.reach(want, min(POLL, max(0.0, deadline - time.monotonic())))

    async def _try_at(
        self, want: dict[Partition, int], query: Query[T], also: Callable[[T], Positions] | None
    ) -> Shown[T] | dict[Partition, int]:
        async with self._database.snapshot() as connection:
            have = await checkpoints(connection)
            if not reached(have, want):
                return have
            value = await query(connection)
            if also is not None:
                want.update(also(value))
            return Shown(value, have) if reached(have, want) else have

    async def _try_outcome(self, position: Position) -> Shown[Refused | None] | Positions:
        next_offset, refused = await self._outcomes[position.where].get(position)
        have = {position.where: next_offset}
        return Shown(refused, have) if next_offset > position.offset else have

    async def _look_at_outcomes(self, positions: Sequence[Position]) -> Mapping[Position, Outcome]:
        """Of positions of one partition."""
        async with self._database.connection() as connection:
            offsets = [position.offset for position in positions]
            next_offset, refused = await outcomes(connection, positions[0].where, offsets)
        return {position: (next_offset, refused.get(position.offset)) for position in positions}

    async def _try_outcome_then(self, position: Position, query: Query[T]) -> Shown[Refused | T] | Positions:
        found = await self._try_outcome(position)
        if not isinstance(found, Shown):
            return found
        if found.value is not None:
            return Shown(found.value, found.positions)
        async with self._database.connection() as connection:
            return Shown(await query(connection), found.positions)

    async def _try(self, query: Query[T]) -> Shown[T]:
        async with self._database.snapshot() as connection:
            have = await checkpoints(connection)
            return Shown(await query(connection), have)


async def _again_if_stale(attempt: Callable[[], Awaitable[T]]) -> T:
    """A switch of generations may pull the views from under a statement once; the next snapshot has the new ones."""
    try:
        return await attempt()
    except Unavailable as error:
        if not isinstance(error.__cause__, STALE):
            raise
        await asyncio.sleep(0)
    return await attempt()


def _behind(have: Mapping[Partition, int], want: Mapping[Partition, int], waited: float) -> str:
    late = {where: end for where, end in want.items() if have.get(where, 0) < end}
    where, end = max(late.items(), key=lambda item: item[1] - have.get(item[0], 0))
    more = f" (and {len(late) - 1} more partitions)" if len(late) > 1 else ""
    return (
        f"The read models are behind the log: partition {where} is folded up to {have.get(where, 0)} of {end}{more} "
        f"after {waited:g} s. Is a worker running?"
    )


def of_topics(*topics: Topic) -> Scope:
    """All partitions of these topics."""
    return lambda ends: {where: end for where, end in ends.items() if where.topic in topics}


def of_run(run_id: str, *topics: Topic) -> Scope:
    """The run's partition of these topics; of a topic with total order, its one partition."""

    def pick(ends: Positions) -> Positions:
        own = partition_of(run_id.encode(), sum(where.topic is Topic.RUNS for where in ends))
        return {
            where: end
            for where, end in ends.items()
            if where.topic in topics and where.partition == (own if where.topic in PARTITIONED else 0)
        }

    return pick


def of_runs(run_ids: Iterable[str], *topics: Topic) -> Scope:
    """`of_run` for several."""
    scopes = [of_run(run_id, *topics) for run_id in run_ids]
    return lambda ends: {where: end for scope in scopes for where, end in scope(ends).items()}
