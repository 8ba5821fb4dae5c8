"""A run's unsaved events: columns in memory, in order and within a bound, until they are saved to the spool."""

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runfold.errors import SdkError
from runfold_schemas.events.frames import Frame

from .rows import Keys

if TYPE_CHECKING:
    from runfold_schemas.events.metrics import BranchFact

_FRAME_BYTES = 600
"""Memory that CPython takes for a frame and its arrays besides their contents, plus a margin for the encoded form."""
_ROW_BYTES = 20
"""A row's step and time (8 bytes each), and a margin for their encoded form."""
_MIN_STEP, _MAX_STEP = -(2**63), 2**63 - 1
RUN_FINISHED = "the run is finished; nothing more can be logged to it"
LATE_MS = 900
"""Age of a row at which the log call saves it itself, so no row is in memory alone for more than a second."""


@dataclass(eq=False, slots=True)
class Rows:
    """Consecutive rows with equal keys, which become one frame. Times are in ms since the epoch, values row by row."""

    keys: Keys
    size: int
    steps: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def points(self) -> int:
        return len(self.values)

    def drop_partial_row(self) -> None:
        """Remove a row that a Ctrl-C left appended in part."""
        whole = min(len(self.steps), len(self.times), len(self.values) // len(self.keys.names))
        del self.steps[whole:], self.times[whole:], self.values[whole * len(self.keys.names) :]

    def frame(self) -> Frame:
        """Return the rows as a frame of metric columns."""
        return Frame(self.keys.names, self.steps, self.times, self.values)


@dataclass(eq=False, slots=True)
class PreparedFrame:
    """A frame that the caller built, such as one with a model or a dataset."""

    columns: Frame
    size: int

    @property
    def points(self) -> int:
        return len(self.columns.values)

    def frame(self) -> Frame:
        """Return the frame of metric columns."""
        return self.columns


@dataclass(eq=False, slots=True)
class FactEntry:
    """A fact about the run, already encoded as a frame of the spool."""

    frame: bytes
    size: int
    points: int = 0


@dataclass(eq=False, slots=True)
class BranchEntry:
    """A branch event, such as a rewind. It keeps its place among the points and shares their sequence."""

    event: "BranchFact"
    size: int = _FRAME_BYTES
    points: int = 0


BufferEntry = Rows | PreparedFrame | FactEntry | BranchEntry


@dataclass(slots=True)
class DropCounts:
    """Number of points and facts dropped because there was no room."""

    points: int = 0
    facts: int = 0


class Buffer:
    """A bounded queue between the training thread and the flusher. All methods are thread-safe.

    Adding never waits for a disk or a server. Entries that do not fit are dropped and counted; with `block`, the caller
    waits for room. `wake` is called outside of all locks when the time of the next save changes.
    """

    def __init__(
        self,
        max_bytes: int,
        frame_bytes: int,
        linger: float,
        wake: Callable[[], None] = lambda: None,
        *,
        block: bool = False,
    ) -> None:
        self._max_bytes = self._room = max_bytes
        self._frame_bytes, self._linger, self._block = frame_bytes, linger, block
        self._wake = wake
        # Acquired directly and not through the condition: a Ctrl-C inside the condition's own code would leave the
        # lock held.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[BufferEntry] = deque()
        self._open: Rows | None = None
        self._open_keys: Keys | None = None
        self._next_step = 0
        self._since_ms = self._draining_since_ms = 0
        self._due: float | None = None
        self._draining: list[BufferEntry] = []
        self._bytes = self._waiting_bytes = 0
        self._closed = ""
        self.dropped = DropCounts()
        self.late = False
        """The oldest row has waited too long: the thread that sees this should save."""

    @property
    def size(self) -> int:
        """Bytes of all unsaved entries."""
        return self._bytes

    @property
    def is_closed(self) -> bool:
        """Whether the buffer accepts no more entries."""
        return bool(self._closed)

    @property
    def is_half_full(self) -> bool:
        """Whether a caller that adds many rows should save before it adds more."""
        return self._bytes * 2 > self._max_bytes

    @property
    def when_full(self) -> str:
        """The fate of new points when the buffer is full, as a verb phrase for messages."""
        return "have to wait" if self._block else "are dropped and counted"

    def add_row(self, keys: Keys, values: "array[float]", step: int | None, at_ms: int | None = None) -> bool:
        """Append a row and return whether there was room.

        `step` defaults to the last step plus 1, and `at_ms` (ms since the epoch) to now. ValueError if the step does
        not fit into 64 bits; SdkError if the buffer is closed.
        """
        time_ms = time.time_ns() // 1_000_000
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if step is None:
                step = self._next_step
            if not _MIN_STEP <= step <= _MAX_STEP:
                raise ValueError(f"step {step} does not fit into 64 bits")
            self._next_step = step + 1
            size = 8 * len(values) + _ROW_BYTES
            rows = self._open
            if rows is None or keys is not self._open_keys:
                size += _FRAME_BYTES + keys.bytes
            if self._bytes + size > self._room and not self._wait_for(size):
                self.dropped.points += len(values)
                return False
            rows = self._open
            if rows is None or keys is not self._open_keys:
                self._seal()
                rows = self._open = Rows(keys, 0)
                self._open_keys = keys
            try:
                rows.steps.append(step)
                rows.times.append(time_ms if at_ms is None else at_ms)
                rows.values.extend(values)
            except BaseException:
                rows.drop_partial_row()
                raise
            rows.size += size
            self._bytes += size
            self._waiting_bytes += size
            if rows.size >= self._frame_bytes:
                self._seal()
            if self._since_ms == 0:
                self._since_ms = time_ms
            if time_ms - (self._draining_since_ms or self._since_ms) > LATE_MS:
                self.late = True
            # Wake for the first row that waits and when a frame is full, not for every row.
            wake = self._due is None
            if wake:
                self._due = time.monotonic() + self._linger
            if self._waiting_bytes >= self._frame_bytes and self._due != 0.0:
                self._due = 0.0
                wake = True
        if wake:
            self._wake()
        return True

    def add_rows(self, rows: Rows, *, continue_steps: bool = False) -> bool:
        """Append many rows at once and return whether there was room. SdkError if the buffer is closed.

        With `continue_steps`, their steps continue from the last one.
        """
        rows.size = 8 * rows.points + _ROW_BYTES * len(rows.steps) + _FRAME_BYTES + rows.keys.bytes
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if continue_steps:
                if self._next_step + len(rows.steps) - 1 > _MAX_STEP:
                    raise ValueError(f"step {self._next_step + len(rows.steps) - 1} does not fit into 64 bits")
                rows.steps = array("q", range(self._next_step, self._next_step + len(rows.steps)))
            self._next_step = rows.steps[-1] + 1
            if self._bytes + rows.size > self._room and not self._wait_for(rows.size):
                self.dropped.points += rows.points
                return False
            self._put_soon(rows)
        self._wake()
        return True

    def add_frame(self, frame: Frame) -> bool:
        """Append a frame that the caller built, and return whether there was room. SdkError if the buffer is closed."""
        names = sum(len(key.encode()) + 5 for key in frame.keys)
        prepared = PreparedFrame(frame, 8 * len(frame.values) + _ROW_BYTES * frame.rows + _FRAME_BYTES + names)
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if self._bytes + prepared.size > self._room and not self._wait_for(prepared.size):
                self.dropped.points += prepared.points
                return False
            self._put_soon(prepared)
        self._wake()
        return True

    def add_fact(self, frame: bytes, *, last: bool = False, must: bool = False) -> bool:
        """Append an encoded fact after all rows so far and return whether there was room.

        Facts that are `must` or `last` are always accepted; the `last` one closes the buffer. SdkError if it is closed.
        """
        size = len(frame) + _FRAME_BYTES
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if last:
                self._closed = RUN_FINISHED
            elif not must and self._bytes + size > self._room and not self._wait_for(size):
                self.dropped.facts += 1
                return False
            self._seal()
            self._put(FactEntry(frame, size))
            self._due = 0.0
        self._wake()
        return True

    def add_branch_event(self, event: "BranchFact", step: int | None) -> None:
        """Append a branch event after all rows so far, even if there is no room. SdkError if the buffer is closed.

        The next step defaults to `step` plus 1.
        """
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if step is not None:
                self._next_step = step + 1
            self._put_soon(BranchEntry(event))
        self._wake()

    def drain(self) -> list[BufferEntry]:
        """Return all waiting entries in order.

        They count against the bound, and are returned again, until `mark_saved` is called.
        """
        with self._lock:
            self._seal()
            self._draining += self._waiting
            self._waiting.clear()
            self._draining_since_ms, self._since_ms = self._draining_since_ms or self._since_ms, 0
            self._waiting_bytes = 0
            self._due = None
            return self._draining

    def mark_saved(self) -> None:
        """Forget the entries that the last `drain` returned."""
        with self._lock:
            self._bytes -= sum(entry.size for entry in self._draining)
            self._draining = []
            self._draining_since_ms = 0
            self.late = False
            self._changed.notify_all()

    def limit(self, room: int) -> None:
        """Hold at most `room` bytes from now on, if that is less than the bound from the start."""
        with self._lock:
            self._room = min(self._max_bytes, room)
            self._changed.notify_all()

    def due(self) -> float | None:
        """Return when to save (monotonic seconds); None if nothing waits."""
        return self._due

    def close(self, why: str) -> None:
        """Reject all further entries with SdkError(why)."""
        with self._lock:
            self._closed = why
            self._changed.notify_all()

    def unsaved(self) -> tuple[int, int]:
        """Return the number of points and of facts in memory."""
        with self._lock:
            entries = [*self._draining, *self._waiting, *([self._open] if self._open else [])]
        facts = sum(isinstance(entry, FactEntry | BranchEntry) for entry in entries)
        return sum(entry.points for entry in entries), facts

    def _wait_for(self, size: int) -> bool:
        """Wait for room if this buffer blocks and the entry can fit at all, and return whether there is room."""
        if not self._block or size > self._max_bytes:
            return False
        self._due = 0.0
        # Not woken here, under the lock: the first waiting row has woken the flusher.
        self._changed.wait_for(lambda: self._closed or self._bytes + size <= self._room)
        if self._closed:
            raise SdkError(self._closed)
        return True

    def _seal(self) -> None:
        rows, self._open, self._open_keys = self._open, None, None
        if rows is not None and rows.steps:
            self._waiting.append(rows)

    def _put_soon(self, entry: BufferEntry) -> None:
        self._seal()
        self._put(entry)
        now_ms = time.time_ns() // 1_000_000
        self._since_ms = self._since_ms or now_ms
        if now_ms - (self._draining_since_ms or self._since_ms) > LATE_MS:
            self.late = True
        if self._due is None:
            self._due = time.monotonic() + self._linger
        if self._waiting_bytes >= self._frame_bytes:
            self._due = 0.0

    def _put(self, entry: BufferEntry) -> None:
        self._bytes += entry.size
        self._waiting_bytes += entry.size
        self._waiting.append(entry)
