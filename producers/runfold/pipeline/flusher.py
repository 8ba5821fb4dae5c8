"""Saving of buffered events to the spool, by a background thread or by a log call that finds old rows."""

import logging
import threading
import time
from collections.abc import Callable
from itertools import groupby

from runfold.spool.frames import FrameKind, pack
from runfold.spool.usage import RECHECK_SECONDS
from runfold.spool.writer import SpoolWriter
from runfold_schemas.codec.batch import Outgoing, encode_item
from runfold_schemas.events.frames import Frame

from .buffer import BranchEntry, Buffer, BufferEntry, FactEntry
from .encoder import RunEncoder

_log = logging.getLogger("runfold")

_RETRY_SECONDS = 1.0
"""Pause after a failed write, such as to a full disk."""
_WARN_AT, _WARN_AGAIN_BELOW = 0.8, 0.5
"""Fractions of the disk limit. The warning repeats only after usage has dropped in between."""


class Flusher:
    """Saves one run's buffer to its spool. Thread-safe.

    Events are encoded here, once: their ids, writer and sequence numbers in the spool never change.
    """

    def __init__(
        self,
        buffer: Buffer,
        encoder: RunEncoder,
        writer: SpoolWriter,
        limit: int,
        saved: Callable[[], None],
        usage: Callable[[], int],
    ) -> None:
        """`limit` is the run's disk limit and `usage` returns its current size, both in bytes.

        `saved` is called after frames were written.
        """
        self._buffer, self._encoder, self._writer, self._limit, self._saved = buffer, encoder, writer, limit, saved
        self._usage = usage
        self._recheck_at: float | None = None
        self._saving = threading.Lock()
        self._unwritten: list[tuple[bytes, int]] = []
        """Encoded frames, each with its number of points."""
        self._warned = False
        self._retry_at = 0.0
        self.failure = ""
        """Why the latest write failed; empty after a success."""

    def due(self) -> float | None:
        """Return when the background thread should save (monotonic seconds); None if there is nothing to save."""
        due = self._retry_at if self.failure else self._buffer.due()
        if self._recheck_at is None or self._buffer.is_closed:
            return due
        return self._recheck_at if due is None else min(due, self._recheck_at)

    def save(self, *, timeout: float = -1) -> bool:
        """Write everything in memory, and return whether the disk accepted all of it.

        Waits up to `timeout` seconds (default: for ever) for another thread that is saving, because that thread may
        hold entries that are older than this call. A timeout counts as failure; callers that must not hang on a
        hanging disk set one.
        """
        if not self._saving.acquire(timeout=timeout):
            return False
        try:
            return self._save()
        finally:
            self._saving.release()

    def update_limit(self) -> None:
        """Adjust the buffer's limit to the free space of the spool, and warn when the spool is nearly full."""
        used = self._usage()
        # Other processes free their part of the limit without notice, so check again.
        self._recheck_at = time.monotonic() + RECHECK_SECONDS if used > self._limit * _WARN_AT else None
        self._buffer.limit(self._limit - used)
        if used > self._limit * _WARN_AT and not self._warned:
            self._warned = True
            _log.warning(
                "runfold: the spools of run %s on this machine use %d of %d MB (RUNFOLD_SPOOL_MB). "
                "When they are full, new points %s",
                self._encoder.run_id, used >> 20, self._limit >> 20, self._buffer.when_full,
            )  # fmt: skip
        elif used < self._limit * _WARN_AGAIN_BELOW:
            self._warned = False

    def set_failure(self, why: str) -> None:
        """Keep the result of the latest write (empty for a success), and the time of the next try after a failure."""
        self.failure, self._retry_at = why, time.monotonic() + _RETRY_SECONDS

    def _save(self) -> bool:
        while True:
            if not self._unwritten:
                self._unwritten = self._encode(self._buffer.drain())
            if not self._unwritten:
                if self._recheck_at is not None and time.monotonic() >= self._recheck_at:
                    self.update_limit()
                return True
            self._write()
            self.update_limit()
            if self._unwritten:
                return False

    def _write(self) -> None:
        try:
            done = self._writer.append([frame for frame, _ in self._unwritten])
            failure = "" if done == len(self._unwritten) else "the disk accepted only a part"
        except OSError as error:
            done, failure = 0, str(error)
        if failure and not self.failure:
            _log.error(
                "runfold: run %s can't be written to the spool and is kept in memory: %s", self._encoder.run_id, failure
            )
        self.set_failure(failure)
        self._writer.points += sum(points for _, points in self._unwritten[:done])
        self._writer.facts += sum(not points for _, points in self._unwritten[:done])
        if done == len(self._unwritten):
            # A Ctrl-C may come between this line and the next. Events that are written twice count once, but events
            # that are encoded twice get new ids and count twice.
            self._buffer.mark_saved()
        del self._unwritten[:done]
        if done:
            self._saved()

    def _encode(self, entries: list[BufferEntry]) -> list[tuple[bytes, int]]:
        frames: list[tuple[bytes, int]] = []
        for is_column, group in groupby(entries, lambda entry: not isinstance(entry, FactEntry | BranchEntry)):
            if is_column:
                columns = [entry.frame() for entry in group if not isinstance(entry, FactEntry | BranchEntry)]
                for record, points in self._metrics(columns):
                    frames.append((pack(FrameKind.METRICS, points, encode_item(record)), points))
                continue
            for entry in group:
                if isinstance(entry, FactEntry):
                    frames.append((entry.frame, 0))
                elif isinstance(entry, BranchEntry):
                    record = self._encoder.branch_event(entry.event)
                    frames.append((pack(FrameKind.METRICS, 0, encode_item(record)), 0))
        return frames

    def _metrics(self, columns: list[Frame]) -> list[tuple[Outgoing, int]]:
        try:
            return self._encoder.metrics(columns)
        except ValueError as error:
            if len(columns) > 1:
                # An invalid frame must not take the others with it.
                return [record for column in columns for record in self._metrics([column])]
            _log.error("runfold: run %s lost %d points: %s", self._encoder.run_id, len(columns[0].values), error)
            return []


class FlushThread:
    """The background thread that runs the flushers of all runs of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._woken: dict[Flusher, None] = {}
        self._thread: threading.Thread | None = None

    def wake(self, flusher: Flusher) -> None:
        """Look at a flusher's `due` again."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runfold spool", daemon=True)
                self._thread.start()
            self._woken[flusher] = None
            self._changed.notify_all()

    def reset_after_fork(self) -> None:
        """Start over in a forked child, which does not inherit the thread."""
        self.__init__()  # type: ignore[misc]

    def _work(self) -> None:
        waiting: dict[Flusher, None] = {}
        while True:
            now = time.monotonic()
            nearest: float | None = None
            for flusher in list(waiting):
                due = flusher.due()
                if due is not None and due <= now:
                    self._save(flusher)
                    due = flusher.due()
                if due is None:
                    del waiting[flusher]
                else:
                    nearest = due if nearest is None else min(nearest, due)
            with self._changed:
                if not self._woken:
                    self._changed.wait(None if nearest is None else max(0.0, nearest - time.monotonic()))
                waiting.update(self._woken)
                self._woken = {}

    def _save(self, flusher: Flusher) -> None:
        try:
            flusher.save()
        except Exception:
            _log.exception("runfold: unexpected error while saving; retrying")
            flusher.set_failure("saving failed")


flush_thread = FlushThread()
