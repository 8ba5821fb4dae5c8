"""What a run logged in the last moments: columns in memory, in order, within a bound, until they are saved to the spool."""

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
    from runfold_schemas.events.runs import LineFact

_FRAME_BYTES = 600
"""What CPython takes for a frame and its arrays beyond their contents, and a margin for its encoded form."""
_ROW_BYTES = 20
_MIN_STEP, _MAX_STEP = -(2**63), 2**63 - 1
LATE_MS = 900
"""Age of a row at which the log call saves it itself, so that never more than a second of a run is in memory alone."""


@dataclass(eq=False, slots=True)
class Rows:
    """Consecutive rows with equal keys, on their way to become a frame."""

    keys: Keys
    size: int
    steps: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def points(self) -> int:
        return len(self.values)

    def cut(self) -> None:
        """Drop a row of which only a part was appended: a Ctrl-C may come anywhere."""
        whole = min(len(self.steps), len(self.times), len(self.values) // len(self.keys.names))
        del self.steps[whole:], self.times[whole:], self.values[whole * len(self.keys.names) :]

    def frame(self) -> Frame:
        """The rows as a frame of the contract."""
        return Frame(self.keys.names, self.steps, self.times, self.values)


@dataclass(eq=False, slots=True)
class Block:
    """A frame that was made elsewhere, such as one with a context."""

    made: Frame
    size: int

    @property
    def points(self) -> int:
        return len(self.made.values)

    def frame(self) -> Frame:
        """The frame."""
        return self.made


@dataclass(eq=False, slots=True)
class Control:
    """A fact about the run as a frame of the spool."""

    frame: bytes
    size: int
    points: int = 0


@dataclass(eq=False, slots=True)
class Turn:
    """An event of the run's line, such as a rewind: it lies among the points in their order, and shares their sequence."""

    event: "LineFact"
    size: int = _FRAME_BYTES
    points: int = 0


Entry = Rows | Block | Control | Turn


@dataclass(slots=True)
class Refused:
    """What was turned away because there was no room."""

    points: int = 0
    facts: int = 0


class Buffer:
    """A bounded queue between the training thread and the thread that saves. All methods are thread-safe.

    Adding never waits for a disk or a server. What does not fit is refused and counted, or with `block` waited for.
    `wake` is called when something comes to be due, outside of all locks.
    """

    def __init__(
        self,
        most_bytes: int,
        frame_bytes: int,
        linger: float,
        wake: Callable[[], None] = lambda: None,
        *,
        block: bool = False,
    ) -> None:
        self._most = self._room = most_bytes
        self._frame_bytes, self._linger, self._block = frame_bytes, linger, block
        self._wake = wake
        # Entered by itself, and not by way of the condition: a Ctrl-C that comes inside of a condition's own code leaves the lock taken.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[Entry] = deque()
        self._open: Rows | None = None
        self._open_keys: Keys | None = None
        self._next_step = 0
        self._since_ms = self._taken_since_ms = 0
        self._due: float | None = None
        self._taken: list[Entry] = []
        self._bytes = self._waiting_bytes = 0
        self._closed = ""
        self.refused = Refused()
        self.late = False
        """The oldest row has waited for so long that whoever notices should save."""

    @property
    def size(self) -> int:
        """Size of all that is not saved."""
        return self._bytes

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken."""
        return bool(self._closed)

    @property
    def is_half_full(self) -> bool:
        """Whether so much waits in memory that whoever adds a lot should save first."""
        return self._bytes * 2 > self._most

    @property
    def when_full(self) -> str:
        """What happens to new points then, in words."""
        return "waited for" if self._block else "refused and counted"

    def add_row(self, keys: Keys, values: "array[float]", step: int | None, at_ms: int | None = None) -> bool:
        """Append a row; without a step, the last one plus 1; without a time (ms since the epoch), now.

        False: refused. ValueError: no 64-bit step; SdkError: closed.
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
                self.refused.points += len(values)
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
                rows.cut()
                raise
            rows.size += size
            self._bytes += size
            self._waiting_bytes += size
            if rows.size >= self._frame_bytes:
                self._seal()
            if self._since_ms == 0:
                self._since_ms = time_ms
            if time_ms - (self._taken_since_ms or self._since_ms) > LATE_MS:
                self.late = True
            # Woken once when something begins to wait, and once when it fills a frame: not for every row.
            wake = self._due is None
            if wake:
                self._due = time.monotonic() + self._linger
            if self._waiting_bytes >= self._frame_bytes and self._due != 0.0:
                self._due = 0.0
                wake = True
        if wake:
            self._wake()
        return True

    def add_rows(self, rows: Rows, *, go_on: bool = False) -> bool:
        """Append rows that were made as a whole; with `go_on` their steps count on from the last one. False: refused. SdkError: closed."""
        rows.size = 8 * rows.points + _ROW_BYTES * len(rows.steps) + _FRAME_BYTES + rows.keys.bytes
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if go_on:
                if self._next_step + len(rows.steps) - 1 > _MAX_STEP:
                    raise ValueError(f"step {self._next_step + len(rows.steps) - 1} does not fit into 64 bits")
                rows.steps = array("q", range(self._next_step, self._next_step + len(rows.steps)))
            self._next_step = rows.steps[-1] + 1
            if self._bytes + rows.size > self._room and not self._wait_for(rows.size):
                self.refused.points += rows.points
                return False
            self._put_soon(rows)
        self._wake()
        return True

    def add_block(self, frame: Frame) -> bool:
        """Append a frame that was made elsewhere. False: refused. SdkError: closed."""
        names = sum(len(key.encode()) + 5 for key in frame.keys)
        block = Block(frame, 8 * len(frame.values) + _ROW_BYTES * frame.rows + _FRAME_BYTES + names)
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if self._bytes + block.size > self._room and not self._wait_for(block.size):
                self.refused.points += block.points
                return False
            self._put_soon(block)
        self._wake()
        return True

    def add_control(self, frame: bytes, *, last: bool = False, must: bool = False) -> bool:
        """Append a fact behind all rows so far. False: refused, which one that `must` never is, nor the `last` one, which closes. SdkError: closed."""
        size = len(frame) + _FRAME_BYTES
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if last:
                self._closed = "the run is finished; nothing can be logged to it any more"
            elif not must and self._bytes + size > self._room and not self._wait_for(size):
                self.refused.facts += 1
                return False
            self._seal()
            self._put(Control(frame, size))
            self._due = 0.0
        self._wake()
        return True

    def add_turn(self, event: "LineFact", step: int | None) -> None:
        """Append an event behind all rows so far, whether there is room or not; steps go on behind `step`. SdkError: closed."""
        with self._lock:
            if self._closed:
                raise SdkError(self._closed)
            if step is not None:
                self._next_step = step + 1
            self._put_soon(Turn(event))
        self._wake()

    def take(self) -> list[Entry]:
        """Everything that waits, in order; it counts against the bound until `acknowledge`, and comes again if that does not."""
        with self._lock:
            self._seal()
            self._taken += self._waiting
            self._waiting.clear()
            self._taken_since_ms, self._since_ms = self._taken_since_ms or self._since_ms, 0
            self._waiting_bytes = 0
            self._due = None
            return self._taken

    def acknowledge(self) -> None:
        """What was taken last is saved: let go of it."""
        with self._lock:
            self._bytes -= sum(entry.size for entry in self._taken)
            self._taken = []
            self._taken_since_ms = 0
            self.late = False
            self._changed.notify_all()

    def bound(self, room: int) -> None:
        """Take no more than `room` bytes beyond what is saved, if that is less than the bound from the start."""
        with self._lock:
            self._room = min(self._most, room)
            self._changed.notify_all()

    def due(self) -> float | None:
        """When what waits should be saved, by the monotonic clock; None: nothing waits."""
        return self._due

    def close(self, why: str) -> None:
        """Refuse whatever is added from now on with SdkError(why)."""
        with self._lock:
            self._closed = why
            self._changed.notify_all()

    def left(self) -> tuple[int, int]:
        """Points and facts that are not saved."""
        with self._lock:
            entries = [*self._taken, *self._waiting, *([self._open] if self._open else [])]
        return sum(entry.points for entry in entries), sum(isinstance(entry, Control | Turn) for entry in entries)

    def _wait_for(self, size: int) -> bool:
        """Whether there is room after waiting, if this buffer waits at all. What could never fit is not waited for."""
        if not self._block or size > self._most:
            return False
        self._due = 0.0
        # The thread that saves is not told while this lock is held by us: it was told when the first row came to wait.
        self._changed.wait_for(lambda: self._closed or self._bytes + size <= self._room)
        if self._closed:
            raise SdkError(self._closed)
        return True

    def _seal(self) -> None:
        rows, self._open, self._open_keys = self._open, None, None
        if rows is not None and rows.steps:
            self._waiting.append(rows)

    def _put_soon(self, entry: Entry) -> None:
        self._seal()
        self._put(entry)
        now_ms = time.time_ns() // 1_000_000
        self._since_ms = self._since_ms or now_ms
        if now_ms - (self._taken_since_ms or self._since_ms) > LATE_MS:
            self.late = True
        if self._due is None:
            self._due = time.monotonic() + self._linger
        if self._waiting_bytes >= self._frame_bytes:
            self._due = 0.0

    def _put(self, entry: Entry) -> None:
        self._bytes += entry.size
        self._waiting_bytes += entry.size
        self._waiting.append(entry)
