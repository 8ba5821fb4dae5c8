"""What one stream of series is about, and its points on the way from the log to the client."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runfold_projections.metrics.branches import NO_RANK
from runfold_projections.series.duplicates import LoggedPoints
from runfold_schemas.codec.record import Record
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunRewound
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_server.freshness.stream_position import StreamPosition
from runfold_server.streams.send_queue import SendQueue

EVENT_BYTES = 512 * 1024
"""Memory of the points of one event of a stream. It ends only between two records of the log."""
_ENTRY_BYTES = 400
_POINT_BYTES = 24

SeriesKey = tuple[str, str, str, int]
"""Run, key, attempt, rank."""
Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Steps, times in ms, and values."""


class Cut(NamedTuple):
    """Points of greater steps, of this rank or (None) of all, that were sent before no longer count: a rewind, or an
    attempt's start step.
    """

    run_id: str
    attempt: str
    rank: int | None
    step: int
    why: str


class SeriesSubscription(SendQueue[Record, Sequence[LoggedPoints] | Cut]):
    """Series of runs, from a position in the log on."""

    def __init__(self, runs: Sequence[str], keys: Sequence[str], rank: int | None, start: StreamPosition) -> None:
        """`rank`: the only one to send; None: all."""
        super().__init__({Partition(Topic.METRICS, number): offset for number, offset in start.offsets.items()})
        self.interests = frozenset(runs)
        self._keys, self._rank = frozenset(keys), rank
        self.log_id = start.log_id

    @property
    def position(self) -> StreamPosition:
        """How far the client has everything."""
        return StreamPosition(self.log_id, {where.partition: offset for where, offset in self.sent.items()})

    def add(self, where: Partition, items: Sequence[Record], next_offset: int) -> None:
        if not self.accepts(where, next_offset):
            return
        start = self.offsets[where]
        for record in items:
            if record.position.offset >= start and record.entity in self.interests:
                self._add_record(where, record)
        self.offsets[where] = next_offset

    def _add_record(self, where: Partition, record: Record) -> None:
        found = _cut(record) or self._points(record)
        if found:
            points = 0 if isinstance(found, Cut) else sum(len(one.steps) for one in found)
            entries = 1 if isinstance(found, Cut) else len(found)
            self.put(where, record.position.offset + 1, found, _ENTRY_BYTES * entries + _POINT_BYTES * points)

    def _points(self, record: Record) -> list[LoggedPoints]:
        event, writer = record.event, record.envelope.writer
        rank = NO_RANK if writer.rank is None else writer.rank
        if not isinstance(event, MetricsLogged) or self._rank not in (None, rank):
            return []
        found = []
        for frame in event.frames:
            for column, key in enumerate(frame.keys):
                if key in self._keys and frame.rows:
                    table: NDArray[np.float64] = np.frombuffer(frame.values, np.float64).reshape(frame.rows, -1)
                    steps, times = np.frombuffer(frame.steps, np.int64), np.frombuffer(frame.times, np.int64)
                    # A copy: a view would hold the whole frame, which may have thousands of other keys.
                    values = table[:, column].copy()
                    found.append(
                        LoggedPoints(
                            event.run_id, key, writer.attempt, rank, record.position.offset, steps, times, values
                        )
                    )
        return found

    def pop_event(self) -> list[LoggedPoints] | Cut:
        """Pop the next points to send, in the order of the log, or a cut by itself; `position` is then behind them."""
        found: list[LoggedPoints] = []
        nbytes = 0
        while nbytes < EVENT_BYTES and (item := self.peek()) is not None:
            if isinstance(item, Cut):
                if found:
                    break
                self.pop()
                self.mark_all_sent()
                return item
            found += item
            nbytes += self.pop()[1]
        self.mark_all_sent()
        return found


def _cut(record: Record) -> Cut | None:
    event, writer = record.event, record.envelope.writer
    if not isinstance(event, AttemptStarted | RunRewound):
        return None
    rank = None if event.all_ranks else NO_RANK if writer.rank is None else writer.rank
    if isinstance(event, RunRewound):
        return Cut(event.run_id, writer.attempt, rank, event.step, "rewind")
    return None if event.start_step is None else Cut(event.run_id, writer.attempt, rank, event.start_step, "start")


def merged(points: Sequence[LoggedPoints]) -> Mapping[SeriesKey, Columns]:
    """Points by run, key, attempt and rank, in the order of the log."""
    parts: dict[SeriesKey, list[LoggedPoints]] = {}
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
