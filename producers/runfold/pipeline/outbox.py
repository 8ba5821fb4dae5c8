"""One spool on its way out: what is next, what has arrived, what was refused. Shared by its owner and the thread that sends."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runfold.spool.frames import Frame, Kind
from runfold.spool.reader import SpoolReader
from runfold.spool.writer import Place
from runfold.transports.base import Experiment

_log = logging.getLogger("runfold")

_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Letter:
    """A frame to be sent, and the place behind it."""

    frame: Frame
    place: Place


class Outbox:
    """The sender's view of a spool. All methods are thread-safe, but that one thread at a time reads and settles."""

    def __init__(self, reader: SpoolReader, name: str, *, end: Callable[[], Place] | None = None) -> None:
        self._reader, self._end = reader, end
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self.drained = False
        """All of a dead owner's spool has been read and has arrived."""
        self.name = name
        """The run's id."""
        self.experiment: Experiment | None = None
        self.creation: Frame | None = None
        """The run's creation as its live owner made it: it is sent before all else, whatever became of the files."""
        self.created = False
        """It has arrived, or was refused for good."""
        self.other_experiment: str | None = None
        """Name of the experiment to create the run in, instead of the one that it named."""
        self.last_error = ""
        """Why the latest attempt failed; empty after one that did not."""
        self.blocked = ""
        """Why nothing of it can be sent until somebody does something."""
        self.problems: list[str] = []
        """What was refused for good: the first few different ones."""
        self.refusals = 0
        """How many events were refused."""
        self.behind: Sequence[Outbox] = ()
        """Earlier attempts at the same run, which must appear in the log first: attempts count by their first appearance there."""
        self._held = self._appeared = False
        self.points = self.facts = 0
        """How many points and other frames have arrived."""

    def waiting(self) -> bool:
        """Whether there is something to send."""
        if self._closed or self.blocked or self.drained or (self._held and self._is_behind):
            return False
        return self._end is None or self._end() > self._reader.acked

    def next(self, most_bytes: int) -> list[Letter]:
        """What is to be sent next, in order: metrics only, or facts only, or the creation alone. OSError: it can't be read now."""
        end = self._end() if self._end else None
        try:
            found = self._reader.read(most_bytes)
        except OSError as error:
            if end is not None:
                # Too many open files, perhaps: what its owner can write can be read again.
                raise
            self.block(f"the spool can't be read: {error}")
            return []
        if self.creation is not None and not self.created and (not found or found[0][0].kind is not Kind.CREATION):
            return [Letter(self.creation, self._reader.acked)]
        if not found:
            # Of a dead owner nothing more will come; a live one has written, and what is not there was deleted by somebody.
            self.drained = end is None
            if end is not None and end > self._reader.acked:
                self._reader.skip(end)
                _log.error(
                    "runfold: run %s: files of its spool are gone or damaged, and what they held is lost", self.name
                )
            self._tell()
            return []
        kind = found[0][0].kind
        self._held = kind is Kind.METRICS and self._is_behind
        if self._held:
            return []
        letters: list[Letter] = []
        for frame, place in found:
            if frame.kind is not kind or (kind is Kind.CREATION and letters):
                break
            letters.append(Letter(frame, place))
        return letters

    def settle(self, letters: Sequence[Letter]) -> None:
        """They have arrived, or were refused for good."""
        with self._changed:
            if self._closed:
                return
            # Before its file may go: else it would be taken for lost.
            self.created = self.created or letters[0].frame.kind is Kind.CREATION
            self._reader.acknowledge(letters[-1].place)
            self._appeared = self._appeared or letters[0].frame.kind is Kind.METRICS
            self.points += sum(letter.frame.points for letter in letters)
            self.facts += sum(letter.frame.points == 0 for letter in letters)
            self.last_error = ""
            self._changed.notify_all()

    def refuse(self, problem: str) -> bool:
        """Note what was refused for good; whether it is worth telling: once each, for a server that takes nothing."""
        self.refusals += 1
        if len(self.problems) >= _MOST_PROBLEMS or problem in self.problems:
            return False
        self.problems.append(problem)
        return True

    def fail(self, why: str) -> None:
        """Note why the latest attempt failed; who waits for the creation waits no longer."""
        self.last_error = why
        self._tell()

    def wait_created(self, timeout: float) -> None:
        """Wait until the run's creation has arrived, or an attempt failed, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.created or self.last_error or self._closed or self.blocked, timeout)

    def block(self, why: str) -> None:
        """Send nothing more of it."""
        self.blocked = self.last_error = why
        self._tell()

    def wait(self, until: Place | None, timeout: float) -> bool:
        """Wait until all before a place has arrived, or all of a dead owner's spool. False: it has not, after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.blocked or self._arrived(until), timeout)
            return self._arrived(until)

    def close(self) -> None:
        """Nothing more is sent or settled, whatever is on its way; what has arrived of that is sent again one day, and counts once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def finish(self) -> None:
        """Take the spool's files away: all of it has arrived. To be called after `close`, with the lock in hand."""
        self._reader.finish()

    @property
    def damages(self) -> list[str]:
        """What could not be read, as text."""
        return [str(damage) for damage in self._reader.damages]

    @property
    def _is_behind(self) -> bool:
        return not all(other._appeared or other.drained or other._closed or other.blocked for other in self.behind)

    def _arrived(self, until: Place | None) -> bool:
        return self.drained if until is None else self._reader.acked >= until

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
