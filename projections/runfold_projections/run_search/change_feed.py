"""The change feed of runs and metrics: epochs, each a state of the tables, and the runs that differ between them."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runfold_projections.postgres.connection import Connection
from runfold_projections.series.fork_summaries import descendants_of

KEPT_CHANGES = 200_000
"""Run ids that a feed keeps, over all epochs."""

Where = tuple[str, int]
Listener = Callable[[frozenset[str] | None], None]
"""Called with the changed runs; None: everything may have changed, since the log or a generation is another."""


class _PartitionState(NamedTuple):
    """A partition's checkpoint, and the log, genesis and generation that it belongs to."""

    next_offset: int
    log: tuple[str, str, int]


class SnapshotEpoch(NamedTuple):
    """A snapshot's epoch, None if a newer one was seen already, and which experiments are deleted in it."""

    epoch: int | None
    deleted: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Epoch:
    number: int
    run_ids: frozenset[str]


class ChangeFeed:
    """Numbers the states of the tables that this process has seen, and lists the runs that differ between two of them.

    Checkpoints identify a state of the tables, since folds are deterministic. A snapshot that is older than the newest
    one seen has no number.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._states: dict[Where, _PartitionState] = {}
        self._changes: deque[_Epoch] = deque()
        self._remembered = 0
        self._first = 0
        self._listeners: list[Listener] = []
        self._lock = asyncio.Lock()

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` at every new epoch."""
        self._listeners.append(listener)

    async def epoch_of(self, connection: Connection) -> int | None:
        """Return the epoch of the connection's snapshot; None if a newer one was seen already."""
        return (await self.snapshot_epoch(connection, ())).epoch

    async def snapshot_epoch(self, connection: Connection, experiment_ids: Sequence[int]) -> SnapshotEpoch:
        """Return the epoch of the connection's snapshot and, in the same round trip, which of these experiments are
        deleted.
        """
        now, deleted = await _read_states(connection, experiment_ids)
        async with self._lock:
            return SnapshotEpoch(await self._epoch_of(connection, now), deleted)

    async def _epoch_of(self, connection: Connection, now: dict[Where, _PartitionState]) -> int | None:
        if not self.epoch or not self._states.keys() <= now.keys() or not self._same_log(now):
            self._begin(now, None)
            return self.epoch
        moved = {where: self._offset(where) for where in now if now[where].next_offset != self._offset(where)}
        if any(now[where].next_offset < offset for where, offset in moved.items()):
            return None
        if moved:
            self._begin(now, await _changed(connection, moved))
        return self.epoch

    def between(self, since: int, until: int) -> set[str] | None:
        """Return the runs that may differ between two epochs; None if that is no longer known."""
        if since < self._first:
            return None
        found: set[str] = set()
        for epoch in reversed(self._changes):
            if epoch.number <= since:
                break
            if epoch.number <= until:
                found |= epoch.run_ids
        return found

    def _offset(self, where: Where) -> int:
        known = self._states.get(where)
        return known.next_offset if known else 0

    def _same_log(self, now: Mapping[Where, _PartitionState]) -> bool:
        return all(now[where].log == known.log for where, known in self._states.items())

    def _begin(self, now: dict[Where, _PartitionState], changed: frozenset[str] | None) -> None:
        self.epoch += 1
        self._states = now
        if changed is None:
            self._changes.clear()
            self._remembered, self._first = 0, self.epoch
        elif changed:
            self._changes.append(_Epoch(self.epoch, changed))
            self._remembered += len(changed)
            while self._remembered > KEPT_CHANGES:
                oldest = self._changes.popleft()
                self._remembered -= len(oldest.run_ids)
                self._first = oldest.number
        for listener in self._listeners:
            listener(changed)


async def _read_states(
    connection: Connection, experiment_ids: Sequence[int]
) -> tuple[dict[Where, _PartitionState], frozenset[int]]:
    rows = await connection.fetch(
        """
        SELECT c.topic, c.partition, c.next_offset, c.log_id, c.genesis_id::text, g.number
        FROM checkpoint c JOIN generation g ON g.projection = c.projection AND g.state = 'live'
        WHERE c.projection IN ('runs', 'metrics')
        UNION ALL
        SELECT NULL, NULL, experiment_id, NULL, NULL, NULL
        FROM experiment WHERE experiment_id = ANY ($1::bigint[]) AND lifecycle_stage = 'deleted'
        """,
        experiment_ids,
    )
    now = {(row[0], row[1]): _PartitionState(row[2], (row[3], row[4], row[5])) for row in rows if row[0] is not None}
    return now, frozenset(row[2] for row in rows if row[0] is None)


async def _changed(connection: Connection, since: Mapping[Where, int]) -> frozenset[str] | None:
    """Return the runs changed in these partitions from these offsets on; None if the rows do not go back that far."""
    topics, partitions, offsets = zip(*((*where, offset) for where, offset in since.items()), strict=True)
    rows = await connection.fetch(
        """
        WITH since AS (
            SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS s (topic, partition, next_offset)
        )
        SELECT s.topic, s.partition, c.first_offset, c.run_ids
        FROM since s JOIN run_change c ON c.partition = s.partition AND c.next_offset > s.next_offset
        WHERE s.topic = 'runs'
        UNION ALL
        SELECT s.topic, s.partition, c.first_offset, c.run_ids
        FROM since s JOIN metric_change c ON c.partition = s.partition AND c.next_offset > s.next_offset
        WHERE s.topic = 'metrics'
        """,
        topics,
        partitions,
        offsets,
    )
    begins: dict[Where, int] = {}
    found: set[str] = set()
    for topic, partition, first_offset, run_ids in rows:
        begins[topic, partition] = min(first_offset, begins.get((topic, partition), first_offset))
        found.update(run_ids)
    if any(where not in begins or begins[where] > offset for where, offset in since.items()):
        return None
    # Inherited points change with the runs that they come from.
    return frozenset(found | await descendants_of(connection, found)) if found else frozenset()
