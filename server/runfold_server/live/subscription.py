"""What one stream waits for, how far it was told, and what it was not told yet: bounded."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from runfold_projections.folds.lineage import NO_RANK
from runfold_schemas.events import AttemptStarted, MetricsLogged, RunRewound
from runfold_schemas.record import Record

from ..places import Place

MOST_PENDING = 8 * 1024 * 1024
"""Bytes that wait for one client, beside those of one stretch of the log."""
EVENT_BYTES = 512 * 1024
"""Bytes of points after which an event is told, if it can end there: only between two records of the log."""
_ENTRY_BYTES = 400


class End(StrEnum):
    """Why a stream ends: the client reads too slowly, the server stops, the log can't tell the rest any more."""

    SLOW = "slow"
    STOPPED = "stopped"
    GONE = "gone"


class Points(NamedTuple):
    """Points of one series by one attempt and rank, from one frame."""

    run_id: str
    key: str
    attempt: str
    rank: int
    steps: Any
    times: Any
    values: Any

    @property
    def nbytes(self) -> int:
        return _ENTRY_BYTES + 24 * len(self.steps)


class Cut(NamedTuple):
    """Points of greater steps told before, of this rank or (None) of all, count no more: a rewind, or an attempt's declared start."""

    run_id: str
    attempt: str
    rank: int | None
    step: int
    why: str


@dataclass(frozen=True, slots=True)
class _Pending:
    partition: int
    next_offset: int
    told: Sequence[Points] | Cut
    nbytes: int


class Subscription:
    """Series of runs, from a place in the log on. Whoever reads the log calls `take`, the stream calls `next`."""

    def __init__(self, runs: Sequence[str], keys: Sequence[str], rank: int | None, place: Place) -> None:
        self.runs = frozenset(runs)
        self._keys, self._rank = frozenset(keys), rank
        self.log_id = place.log_id
        self.offsets: dict[int, int] = dict(place.offsets)
        """How far the log was taken in, pending points included."""
        self._told: dict[int, int] = dict(place.offsets)
        self._pending: deque[_Pending] = deque()
        self.nbytes = 0
        self.end: End | None = None
        self.reason = ""
        self._woken = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def place(self) -> Place:
        """Up to where the client was told."""
        return Place(self.log_id, self._told)

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._pending) or self.end is not None

    def take(self, partition: int, records: Sequence[Record], next_offset: int) -> None:
        """Take in records of a stretch of the log that ends before `next_offset`; those from before its own place do nothing."""
        start = self.offsets[partition]
        if next_offset <= start or self.end is not None:
            return
        if self.nbytes > MOST_PENDING:
            self.finish(End.SLOW, "points come faster than the client reads; it can go on from the last event's id")
            return
        for record in records:
            if record.position.offset >= start and record.entity in self.runs:
                self._add(partition, record)
        self.offsets[partition] = next_offset

    def _add(self, partition: int, record: Record) -> None:
        told = _cut(record) or self._points(record)
        if told:
            nbytes = _ENTRY_BYTES if isinstance(told, Cut) else sum(one.nbytes for one in told)
            self._pending.append(_Pending(partition, record.position.offset + 1, told, nbytes))
            self.nbytes += nbytes
            self._woken.set()
            if self.nbytes > MOST_PENDING // 2:
                self._room.clear()

    def _points(self, record: Record) -> list[Points]:
        event, writer = record.event, record.envelope.writer
        rank = NO_RANK if writer.rank is None else writer.rank
        if not isinstance(event, MetricsLogged) or self._rank not in (None, rank):
            return []
        found = []
        for frame in event.frames:
            for column, key in enumerate(frame.keys):
                if key in self._keys and frame.rows:
                    table: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, -1)
                    steps, times = np.frombuffer(frame.steps, np.int64), np.frombuffer(frame.times, np.int64)
                    # A copy: a view would hold the whole frame, of which there may be thousands of other keys.
                    values = table[:, column].copy()
                    found.append(Points(event.run_id, key, writer.attempt, rank, steps, times, values))
        return found

    def finish(self, end: End, reason: str) -> None:
        """End the stream: what is pending is forgotten, and its client told why."""
        if self.end is None:
            self.end, self.reason = end, reason
            self._pending.clear()
            self.nbytes = 0
            self._woken.set()
            self._room.set()

    async def room(self) -> None:
        """Return when half of what may be pending is free."""
        await self._room.wait()

    async def wait(self, seconds: float) -> None:
        """Return when there is something to tell, or after so long."""
        if self.waiting:
            return
        self._woken.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    def next(self) -> list[Points] | Cut:
        """The next points to tell, in the order of the log, or a cut by itself; `place` is then behind them."""
        found: list[Points] = []
        cut: Cut | None = None
        nbytes = 0
        while self._pending and nbytes < EVENT_BYTES and cut is None:
            told = self._pending[0].told
            if isinstance(told, Cut):
                if found:
                    break
                cut = told
            else:
                found += told
            item = self._pending.popleft()
            nbytes += item.nbytes
            self._told[item.partition] = item.next_offset
        self.nbytes -= nbytes
        if self.nbytes <= MOST_PENDING // 2:
            self._room.set()
        if not self._pending and self.end is None:
            self._told = dict(self.offsets)
        return cut or found


def _cut(record: Record) -> Cut | None:
    event, writer = record.event, record.envelope.writer
    if not isinstance(event, AttemptStarted | RunRewound):
        return None
    rank = None if event.all_ranks else NO_RANK if writer.rank is None else writer.rank
    if isinstance(event, RunRewound):
        return Cut(event.run_id, writer.attempt, rank, event.step, "rewind")
    return None if event.start_step is None else Cut(event.run_id, writer.attempt, rank, event.start_step, "start")


def merged(points: Sequence[Points]) -> Mapping[tuple[str, str, str, int], tuple[Any, Any, Any]]:
    """Points by series, attempt and rank: steps, times, values, in their order."""
    parts: dict[tuple[str, str, str, int], list[Points]] = {}
    for one in points:
        parts.setdefault((one.run_id, one.key, one.attempt, one.rank), []).append(one)
    return {
        name: (
            np.concatenate([one.steps for one in some]),
            np.concatenate([one.times for one in some]),
            np.concatenate([one.values for one in some]),
        )
        for name, some in parts.items()
    }
