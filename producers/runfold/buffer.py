"""What a run logged and the server did not acknowledge yet: columns in memory, in order, within a bound."""

import threading
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runfold_schemas.frames import Frame

from .errors import SdkError
from .rows import Keys

if TYPE_CHECKING:
    from runfold_schemas.batch import Outgoing

_FRAME_BYTES = 600
"""What CPython takes for a frame and its arrays beyond their contents, and a margin for its encoded form."""
_ROW_BYTES = 20
_MIN_STEP, _MAX_STEP = -(2**63), 2**63 - 1


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

    def frame(self) -> Frame:
        """The rows as a frame of the contract."""
        return Frame(self.keys.names, self.steps, self.times, self.values)


@dataclass(eq=False, slots=True)
class Control:
    """A fact about the run, ready to be appended; its outcome is waited for."""

    record: "Outgoing"
    size: int
    points: int = 0


Entry = Rows | Control


@dataclass(slots=True)
class Refused:
    """What was turned away because the buffer was full."""

    points: int = 0
    facts: int = 0


class Buffer:
    """A bounded queue between the training thread and the sender. All methods are thread-safe.

    Adding never waits: not for the server, not for space. What does not fit is refused and counted.
    """

    def __init__(self, most_bytes: int, frame_bytes: int, linger: float) -> None:
        self._most, self._frame_bytes, self._linger = most_bytes, frame_bytes, linger
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Entry] = deque()
        self._open: Rows | None = None
        self._open_keys: Keys | None = None
        self._next_step = 0
        self._waiting_bytes = 0
        self._taken: list[Entry] = []
        self._bytes = 0
        self._sealed = self._acknowledged = 0
        self._hurry = self._idle = self._abandoned = False
        self._closed = ""
        self.refused = Refused()

    @property
    def bytes(self) -> int:
        """Size of all that is not acknowledged."""
        return self._bytes

    def add_row(self, keys: Keys, values: "array[float]", step: int | None) -> bool:
        """Append a row; without a step, the last one plus 1. False: refused. ValueError: no 64-bit step; SdkError: closed."""
        time_ms = time.time_ns() // 1_000_000
        with self._changed:
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
            if self._bytes + size > self._most:
                self.refused.points += len(values)
                return False
            if rows is None or keys is not self._open_keys:
                self._seal()
                rows = self._open = Rows(keys, 0)
                self._open_keys = keys
            rows.steps.append(step)
            rows.times.append(time_ms)
            rows.values.extend(values)
            rows.size += size
            self._bytes += size
            self._waiting_bytes += size
            if rows.size >= self._frame_bytes:
                self._seal()
            if self._idle or self._waiting_bytes >= self._frame_bytes:
                self._changed.notify_all()
        return True

    def add_control(self, record: "Outgoing", *, last: bool = False) -> bool:
        """Append a fact behind all rows so far. False: refused, which the `last` one, which closes, never is. SdkError: closed."""
        size = len(record.value) + _FRAME_BYTES
        with self._changed:
            if self._closed:
                raise SdkError(self._closed)
            if last:
                self._closed = "the run is finished; nothing can be logged to it any more"
            elif self._bytes + size > self._most:
                self.refused.facts += 1
                return False
            self._seal()
            self._put(Control(record, size))
            self._bytes += size
            self._waiting_bytes += size
            self._hurry = True
            self._changed.notify_all()
        return True

    def take(self, most_bytes: int) -> list[Entry]:
        """Wait until something is due and hand out what comes first: facts only or rows only, some `most_bytes`.

        Due is what lingered long enough, fills a frame, or is wanted by `wait` or `close`. Empty: closed, and nothing is left.
        What was taken counts as unacknowledged until `acknowledge`.
        """
        with self._changed:
            while not self._waiting and self._open is None:
                self._hurry = False
                if self._closed:
                    return []
                self._idle = True
                self._changed.wait()
                self._idle = False
            due = time.monotonic() + self._linger
            while not (self._hurry or self._closed or self._waiting_bytes >= self._frame_bytes):
                left = due - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._abandoned:
                return []
            self._seal()
            size = 0
            while (
                self._waiting
                and size < most_bytes
                and (not self._taken or type(self._waiting[0]) is type(self._taken[0]))
            ):
                entry = self._waiting.popleft()
                size += entry.size
                self._taken.append(entry)
            self._waiting_bytes -= size
            return self._taken

    def acknowledge(self) -> None:
        """Let go of what was taken last."""
        with self._changed:
            self._acknowledged += len(self._taken)
            self._bytes -= sum(entry.size for entry in self._taken)
            self._taken = []
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Hurry, and wait until all that was added before this call is acknowledged. False: it was not, after `timeout` seconds."""
        with self._changed:
            self._seal()
            target = self._sealed
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._abandoned or self._acknowledged >= target, timeout)
            return self._acknowledged >= target

    def close(self, why: str) -> None:
        """Refuse whatever is added from now on with SdkError(why); `take` hands out the rest without lingering, then nothing."""
        with self._changed:
            self._closed = why
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody will take or acknowledge any more: `wait` returns, `take` hands out nothing."""
        with self._changed:
            self._abandoned = True
            self._closed = self._closed or "sending has ended"
            self._changed.notify_all()

    def left(self) -> tuple[int, int]:
        """Points and facts that are not acknowledged."""
        with self._changed:
            entries = [*self._taken, *self._waiting, *([self._open] if self._open else [])]
        return sum(entry.points for entry in entries), sum(isinstance(entry, Control) for entry in entries)

    def _seal(self) -> None:
        if self._open is not None:
            self._put(self._open)
            self._open = self._open_keys = None

    def _put(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._sealed += 1
