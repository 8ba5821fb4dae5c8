"""The sending state of one spool: next frames, deliveries, rejections.

Shared by the spool's owner and the sender thread.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runfold.spool.frames import FrameKind, SpoolFrame
from runfold.spool.reader import SpoolReader
from runfold.spool.writer import SpoolPosition
from runfold.transports.base import Experiment

_log = logging.getLogger("runfold")

_MAX_PROBLEMS = 20
"""How many different rejections a run keeps for its final report."""


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame to send, and its end position in the spool."""

    frame: SpoolFrame
    end: SpoolPosition


class Outbox:
    """The sender's view of a spool. Thread-safe, but only one thread at a time may read and mark deliveries.

    `end` returns the end of what a live owner has written; None if the owner is gone.
    """

    def __init__(self, reader: SpoolReader, name: str, *, end: Callable[[], SpoolPosition] | None = None) -> None:
        self._reader, self._end = reader, end
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self.drained = False
        """The owner is gone, and everything in the spool has been delivered."""
        self.name = name
        """The run's id."""
        self.experiment: Experiment | None = None
        self.creation: SpoolFrame | None = None
        """The run's creation, from a live owner. It is sent before all else, even if its file is lost."""
        self.created = False
        """The creation was delivered or rejected."""
        self.other_experiment: str | None = None
        """Name of the experiment to create the run in, instead of the one in its creation."""
        self.last_error = ""
        """Why the latest attempt failed; empty after a success."""
        self.blocked = ""
        """Why nothing can be sent until somebody intervenes."""
        self.problems: list[str] = []
        """The first few different rejections."""
        self.rejections = 0
        """Number of rejected events."""
        self.earlier: Sequence[Outbox] = ()
        """Spools of earlier attempts at the run. Attempts are ordered by their first metrics record in the log, so the
        earlier ones must appear there first."""
        self._held = self._appeared = False
        self.points = self.facts = 0
        """Number of points and of other frames delivered."""

    def has_pending(self) -> bool:
        """Return whether there is something to send now."""
        if self._closed or self.blocked or self.drained or (self._held and self._waits_for_earlier):
            return False
        return self._end is None or self._end() > self._reader.acked

    def next(self, max_bytes: int) -> list[PendingFrame]:
        """Return the next frames to send, in order. OSError if the spool can't be read now.

        They are all metrics, or all facts, or the creation alone.
        """
        end = self._end() if self._end else None
        try:
            found = self._reader.read(max_bytes)
        except OSError as error:
            if end is not None:
                # Perhaps too many open files. A spool that its owner can write will be readable again.
                raise
            self.block(f"the spool can't be read: {error}")
            return []
        if self.creation is not None and not self.created and (not found or found[0][0].kind is not FrameKind.CREATION):
            return [PendingFrame(self.creation, self._reader.acked)]
        if not found:
            # A spool whose owner is gone is complete. A live owner has written up to `end`, so its files were deleted.
            self.drained = end is None
            if end is not None and end > self._reader.acked:
                self._reader.skip(end)
                _log.error(
                    "runfold: run %s: files of its spool are missing or damaged, and their events are lost", self.name
                )
            self._notify()
            return []
        kind = found[0][0].kind
        self._held = kind is FrameKind.METRICS and self._waits_for_earlier
        if self._held:
            return []
        pending: list[PendingFrame] = []
        for frame, position in found:
            if frame.kind is not kind or (kind is FrameKind.CREATION and pending):
                break
            pending.append(PendingFrame(frame, position))
        return pending

    def mark_delivered(self, frames: Sequence[PendingFrame]) -> None:
        """Acknowledge frames that were delivered or rejected."""
        with self._changed:
            if self._closed:
                return
            # Set before the acknowledgement deletes the file, or the owner would take the creation for lost.
            self.created = self.created or frames[0].frame.kind is FrameKind.CREATION
            self._reader.acknowledge(frames[-1].end)
            self._appeared = self._appeared or frames[0].frame.kind is FrameKind.METRICS
            self.points += sum(pending.frame.points for pending in frames)
            self.facts += sum(pending.frame.points == 0 for pending in frames)
            self.last_error = ""
            self._changed.notify_all()

    def record_rejection(self, problem: str) -> bool:
        """Count a rejection and return whether to log it. Each different problem is logged once."""
        self.rejections += 1
        if len(self.problems) >= _MAX_PROBLEMS or problem in self.problems:
            return False
        self.problems.append(problem)
        return True

    def record_failure(self, why: str) -> None:
        """Keep the reason of a failed attempt, and end `wait_created`."""
        self.last_error = why
        self._notify()

    def wait_created(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the run's creation or a failed attempt."""
        with self._changed:
            self._changed.wait_for(lambda: self.created or self.last_error or self._closed or self.blocked, timeout)

    def block(self, why: str) -> None:
        """Stop sending until somebody intervenes."""
        self.blocked = self.last_error = why
        self._notify()

    def wait(self, end: SpoolPosition | None, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the delivery of everything before `end`, and return whether it happened.

        Without `end`, wait for the whole spool, whose owner is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.blocked or self._delivered(end), timeout)
            return self._delivered(end)

    def close(self) -> None:
        """Stop sending. A delivery in progress is not recorded: its events are sent again, and count once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def remove_files(self) -> None:
        """Remove the fully delivered spool. Call it after `close`, with the spool's lock held."""
        self._reader.finish()

    @property
    def damages(self) -> list[str]:
        """Descriptions of the unreadable parts."""
        return [str(damage) for damage in self._reader.damages]

    @property
    def _waits_for_earlier(self) -> bool:
        return not all(other._appeared or other.drained or other._closed or other.blocked for other in self.earlier)

    def _delivered(self, end: SpoolPosition | None) -> bool:
        return self.drained if end is None else self._reader.acked >= end

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
