"""Reads that see every acknowledged write, and reads that do not wait.

A strong read is Raft's ReadIndex over the log: get the partitions' end offsets, wait until the folds' checkpoints
have passed them, read rows and checkpoints in one transaction.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar, overload

from runfold_projections.operations.outcomes import RejectedEvent, read_outcomes
from runfold_projections.postgres.connection import Connection
from runfold_projections.postgres.read_transaction import checkpoints, has_reached
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.coalescing import Coalescer
from runfold_server.core.database import Database
from runfold_server.core.errors import Unavailable
from runfold_server.core.metrics import ServerMetrics
from runfold_server.core.outages import STALE
from runfold_server.freshness.end_offsets import EndOffsets
from runfold_server.freshness.fold_progress import POLL_SECONDS, FoldProgress
from runfold_server.freshness.read_hints import ReadHintSender

from .scopes import PartitionOffsets, Scope

GATHERING = Topic.METRICS
"""The topic whose workers let records gather for a moment unless a read hint comes."""
T = TypeVar("T")
Query = Callable[[Connection], Awaitable[T]]
Outcome = tuple[int, RejectedEvent | None]
"""A checkpoint, and the rejection of an event that it has passed."""


@dataclass(frozen=True, slots=True)
class ReadResult(Generic[T]):
    """What a query found, and the checkpoints of the transaction that it ran in."""

    value: T
    positions: PartitionOffsets

    def positions_json(self) -> dict[str, int]:
        """The checkpoints as answers of the native API show them."""
        return {str(where): offset for where, offset in sorted(self.positions.items())}


class Consistency(StrEnum):
    """What a read sees: all that was acknowledged before it began, or what is folded by now."""

    STRONG = "strong"
    EVENTUAL = "eventual"


class FoldsBehind(Unavailable):
    """The folds did not reach an end offset in time."""


class Reader:
    """Runs queries in read transactions. `wait` bounds, in seconds, how long a read waits for the folds."""

    def __init__(
        self,
        database: Database,
        ends: EndOffsets,
        progress: FoldProgress,
        metrics: ServerMetrics,
        hints: ReadHintSender,
        *,
        wait: float,
    ) -> None:
        self._database, self._ends, self._progress = database, ends, progress
        self._metrics, self._hints = metrics, hints
        self._wait = wait
        self._outcomes: defaultdict[Partition, Coalescer[Position, Outcome]] = defaultdict(
            lambda: Coalescer(self._read_outcomes)
        )

    async def read(
        self,
        scope: Scope,
        query: Query[T],
        also: Callable[[T], Scope] | None = None,
        *,
        as_of: Vector | None = None,
        consistency: Consistency = Consistency.STRONG,
    ) -> ReadResult[T]:
        """Run the query in a transaction that shows every write in the scope that was acknowledged before this call.

        With `Consistency.EVENTUAL` it waits for nothing. With `as_of` it waits until the folds have passed that
        vector, and the result has its positions: the query must leave out what is beyond. What was found may show
        that more partitions matter: `also` returns their scope, and the query runs again if need be. Unavailable if
        Kafka or Postgres is away; FoldsBehind.
        """
        if as_of is not None:
            result = await self.read_after(
                scope(as_of), query, None if also is None else lambda found: also(found)(as_of)
            )
            return ReadResult(result.value, as_of)
        if consistency is Consistency.EVENTUAL:
            return await self._read_now(query)
        began = time.perf_counter()
        ends = await self._ends.now()
        result = await self.read_after(scope(ends), query, None if also is None else lambda found: also(found)(ends))
        self._metrics.strong_read(time.perf_counter() - began)
        return result

    async def read_after(
        self, ends: PartitionOffsets, query: Query[T], also: Callable[[T], PartitionOffsets] | None = None
    ) -> ReadResult[T]:
        """Run the query in a transaction whose checkpoints have passed these end offsets and those of `also`."""
        wanted = dict(ends)
        return await self._retry_until_folded(wanted, lambda: self._try_read(wanted, query, also))

    @overload
    async def outcome(self, position: Position) -> RejectedEvent | None: ...
    @overload
    async def outcome(self, position: Position, query: Query[T]) -> RejectedEvent | T: ...
    async def outcome(self, position: Position, query: Query[Any] | None = None) -> Any:
        """The rejection of the event at this position, once it is folded; None if it was accepted.

        With a query, what it finds after an accepted event: only for a query of one statement, as it has no
        transaction. Cheaper than `read_after`: one statement answers all callers that wait for the same partition at
        the same time.
        """
        ends = {position.where: position.offset + 1}
        return (await self._retry_until_folded(ends, lambda: self._try_outcome(position, query))).value

    async def _read_now(self, query: Query[T]) -> ReadResult[T]:
        async def attempt() -> ReadResult[T]:
            async with self._database.read_transaction() as connection:
                positions = await checkpoints(connection)
                return ReadResult(await query(connection), positions)

        return await _retry_if_stale(attempt)

    async def _retry_until_folded(
        self, ends: PartitionOffsets, attempt: Callable[[], Awaitable[ReadResult[T] | PartitionOffsets]]
    ) -> ReadResult[T]:
        """Try whenever a notice, or a poll's time, gives hope. An attempt that comes too early returns the
        checkpoints that it saw.
        """
        deadline = time.monotonic() + self._wait
        self._hints.send(
            {
                where: end
                for where, end in ends.items()
                if where.topic is GATHERING and self._progress.known.get(where, 0) < end
            }
        )
        await self._progress.wait_until(ends, min(POLL_SECONDS, self._wait))
        while True:
            version = self._progress.version
            found = await _retry_if_stale(attempt)
            if isinstance(found, ReadResult):
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise FoldsBehind(_folds_behind(found, ends, self._wait))
            await self._progress.wait_for_notice(version, left)
            await self._progress.wait_until(ends, min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))

    async def _try_read(
        self, ends: dict[Partition, int], query: Query[T], also: Callable[[T], PartitionOffsets] | None
    ) -> ReadResult[T] | PartitionOffsets:
        async with self._database.read_transaction() as connection:
            positions = await checkpoints(connection)
            if not has_reached(positions, ends):
                return positions
            value = await query(connection)
            if also is not None:
                ends.update(also(value))
            return ReadResult(value, positions) if has_reached(positions, ends) else positions

    async def _try_outcome(
        self, position: Position, query: Query[T] | None
    ) -> ReadResult[RejectedEvent | T | None] | PartitionOffsets:
        next_offset, refused = await self._outcomes[position.where].get(position)
        positions = {position.where: next_offset}
        if next_offset <= position.offset:
            return positions
        if refused is not None or query is None:
            return ReadResult(refused, positions)
        async with self._database.connection() as connection:
            return ReadResult(await query(connection), positions)

    async def _read_outcomes(self, positions: Sequence[Position]) -> Mapping[Position, Outcome]:
        """The outcomes at positions of one partition."""
        async with self._database.connection() as connection:
            offsets = [position.offset for position in positions]
            next_offset, refused = await read_outcomes(connection, positions[0].where, offsets)
        return {position: (next_offset, refused.get(position.offset)) for position in positions}


async def _retry_if_stale(attempt: Callable[[], Awaitable[T]]) -> T:
    """A switch of generations may pull the views from under a statement once; the next transaction has the new ones."""
    try:
        return await attempt()
    except Unavailable as error:
        if not isinstance(error.__cause__, STALE):
            raise
        await asyncio.sleep(0)
    return await attempt()


def _folds_behind(positions: PartitionOffsets, ends: PartitionOffsets, waited: float) -> str:
    late = {where: end for where, end in ends.items() if positions.get(where, 0) < end}
    where, end = max(late.items(), key=lambda item: item[1] - positions.get(item[0], 0))
    more = f" (and {len(late) - 1} more partitions)" if len(late) > 1 else ""
    return (
        f"The read models are behind the log: partition {where} is folded up to {positions.get(where, 0)} of "
        f"{end}{more} "
        f"after {waited:g} s. Is a worker running?"
    )
