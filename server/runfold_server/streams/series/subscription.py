"""What one stream of series waits for, and its points on the way from the log to the client."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from runfold_projections.metrics.branches import NO_RANK
from runfold_projections.series.duplicates import Logged
from runfold_schemas.codec.record import Record
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunRewound
from runfold_server.freshness.stream_position import Place
from runfold_server.streams.send_queue import Pending

EVENT_BYTES = 512 * 1024
"""Bytes of points after which an event is told, if it can end there: only between two records of the log."""
_ENTRY_BYTES = 400


class Cut(NamedTuple):
    """Points of greater steps told before, of this rank or (None) of all, count no more: a rewind, or an attempt's declared start."""

    run_id: str
    attempt: str
    rank: int | None
    step: int
    why: str


class Subscription(Pending[int, Sequence[Logged] | Cut]):
    """Series of runs, from a place in the log on. Whoever reads the log calls `take`, the stream calls `next`."""

    def __init__(self, runs: Sequence[str], keys: Sequence[str], rank: int | None, place: Place) -> None:
        super().__init__(place.offsets)
        self.runs = frozenset(runs)
        self._keys, self._rank = frozenset(keys), rank
        self.log_id = place.log_id

    @property
    def place(self) -> Place:
        """Up to where the client was told."""
        return Place(self.log_id, self.told)

    def take(self, partition: int, records: Sequence[Record], next_offset: int) -> None:
        """Take in records of a stretch of the log that ends before `next_offset`; those from before its own place do nothing."""
        if not self.takes(partition, next_offset):
            return
        start = self.offsets[partition]
        for record in records:
            if record.position.offset >= start and record.entity in self.runs:
                self._add(partition, record)
        self.offsets[partition] = next_offset

    def _add(self, partition: int, record: Record) -> None:
        told = _cut(record) or self._points(record)
        if told:
            nbytes = _ENTRY_BYTES if isinstance(told, Cut) else sum(_ENTRY_BYTES + 24 * len(one.steps) for one in told)
            self.put(partition, record.position.offset + 1, told, nbytes)

    def _points(self, record: Record) -> list[Logged]:
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
                    found.append(
                        Logged(event.run_id, key, writer.attempt, rank, record.position.offset, steps, times, values)
                    )
        return found

    def next(self) -> list[Logged] | Cut:
        """The next points to tell, in the order of the log, or a cut by itself; `place` is then behind them."""
        found: list[Logged] = []
        cut: Cut | None = None
        nbytes = 0
        while nbytes < EVENT_BYTES and cut is None and (told := self.peek()) is not None:
            if isinstance(told, Cut):
                if found:
                    break
                cut = told
            else:
                found += told
            nbytes += self.pop()[1]
        self.told_all()
        return cut or found


def _cut(record: Record) -> Cut | None:
    event, writer = record.event, record.envelope.writer
    if not isinstance(event, AttemptStarted | RunRewound):
        return None
    rank = None if event.all_ranks else NO_RANK if writer.rank is None else writer.rank
    if isinstance(event, RunRewound):
        return Cut(event.run_id, writer.attempt, rank, event.step, "rewind")
    return None if event.start_step is None else Cut(event.run_id, writer.attempt, rank, event.start_step, "start")


def merged(points: Sequence[Logged]) -> Mapping[tuple[str, str, str, int], tuple[Any, Any, Any]]:
    """Points by series, attempt and rank: steps, times, values, in their order."""
    parts: dict[tuple[str, str, str, int], list[Logged]] = {}
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
