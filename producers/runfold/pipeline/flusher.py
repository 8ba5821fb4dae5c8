"""From memory to disk: rows become frames of the spool, by a background thread in time, or by the log call that finds it late."""

import logging
import threading
import time
from collections.abc import Callable
from itertools import groupby

from runfold.spool.frames import Kind, pack
from runfold.spool.usage import LOOK_AGAIN
from runfold.spool.writer import SpoolWriter
from runfold_schemas.codec.batch import Outgoing, encode_item
from runfold_schemas.events.frames import Frame

from .buffer import Buffer, Control, Entry, Turn
from .encoder import RunEncoder

_log = logging.getLogger("runfold")

_RETRY = 1.0
_WARN_AT, _WARN_AGAIN_BELOW = 0.8, 0.5


class Saver:
    """Saves one run's buffer into its spool. Thread-safe.

    Encoded here, once: event id, writer and sequence of what lies in the spool never change.
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
        self._buffer, self._encoder, self._writer, self._limit, self._saved = buffer, encoder, writer, limit, saved
        self._usage = usage
        self._look_at: float | None = None
        self._saving = threading.Lock()
        self._unwritten: list[tuple[bytes, int]] = []
        self._warned = False
        self._retry_at = 0.0
        self.failure = ""
        """Why the disk took nothing, the last time it was tried."""

    def due(self) -> float | None:
        """When the background thread should save, by the monotonic clock; None: there is nothing to save."""
        due = self._retry_at if self.failure else self._buffer.due()
        if self._look_at is None or self._buffer.is_closed:
            return due
        return self._look_at if due is None else min(due, self._look_at)

    def save(self, *, patience: float = -1) -> bool:
        """Write all that is in memory. False: the disk took not all of it, or another thread was still writing after `patience` s.

        Another thread writes what it took before it began, perhaps long ago, so it must be waited for; a disk that hangs must not be.
        """
        if not self._saving.acquire(timeout=patience):
            return False
        try:
            return self._save()
        finally:
            self._saving.release()

    def make_room(self) -> None:
        """Tell the buffer how much more may come: acknowledged segments are gone."""
        used = self._usage()
        # Other processes may free what they took of the bound, without a word.
        self._look_at = time.monotonic() + LOOK_AGAIN if used > self._limit * _WARN_AT else None
        self._buffer.bound(self._limit - used)
        if used > self._limit * _WARN_AT and not self._warned:
            self._warned = True
            _log.warning(
                "runfold: the spools of run %s on this machine hold %d of %d MB (RUNFOLD_SPOOL_MB): when they are full, new points are %s",
                self._encoder.run_id, used >> 20, self._limit >> 20, self._buffer.when_full,
            )  # fmt: skip
        elif used < self._limit * _WARN_AGAIN_BELOW:
            self._warned = False

    def _save(self) -> bool:
        while True:
            if not self._unwritten:
                self._unwritten = self._frames(self._buffer.take())
            if not self._unwritten:
                if self._look_at is not None and time.monotonic() >= self._look_at:
                    self.make_room()
                return True
            self._write()
            self.make_room()
            if self._unwritten:
                return False

    def _write(self) -> None:
        try:
            done = self._writer.append([frame for frame, _ in self._unwritten])
            failure = "" if done == len(self._unwritten) else "the disk took only a part"
        except OSError as error:
            done, failure = 0, str(error)
        if failure and not self.failure:
            _log.error(
                "runfold: run %s can't be written to the spool, kept in memory: %s", self._encoder.run_id, failure
            )
        self.failure, self._retry_at = failure, time.monotonic() + _RETRY
        self._writer.points += sum(points for _, points in self._unwritten[:done])
        self._writer.facts += sum(not points for _, points in self._unwritten[:done])
        if done == len(self._unwritten):
            # First, for a Ctrl-C in between: what is written twice counts once, what is encoded twice does not.
            self._buffer.acknowledge()
        del self._unwritten[:done]
        if done:
            self._saved()

    def _frames(self, entries: list[Entry]) -> list[tuple[bytes, int]]:
        frames: list[tuple[bytes, int]] = []
        for is_column, group in groupby(entries, lambda entry: not isinstance(entry, Control | Turn)):
            if is_column:
                columns = [entry.frame() for entry in group if not isinstance(entry, Control | Turn)]
                for record, points in self._records(columns):
                    frames.append((pack(Kind.METRICS, points, encode_item(record)), points))
                continue
            for entry in group:
                if isinstance(entry, Control):
                    frames.append((entry.frame, 0))
                elif isinstance(entry, Turn):
                    frames.append((pack(Kind.METRICS, 0, encode_item(self._encoder.turn(entry.event))), 0))
        return frames

    def _records(self, columns: list[Frame]) -> list[tuple[Outgoing, int]]:
        try:
            return self._encoder.metrics(columns)
        except ValueError as error:
            if len(columns) > 1:
                # One that can't be encoded must not take the others with it.
                return [record for column in columns for record in self._records([column])]
            _log.error("runfold: run %s lost %d points: %s", self._encoder.run_id, len(columns[0].values), error)
            return []


class Pump:
    """The background thread that saves: one per process, for all its runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._woken: dict[Saver, None] = {}
        self._thread: threading.Thread | None = None

    def wake(self, saver: Saver) -> None:
        """A saver has something that is due, or will be."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runfold spool", daemon=True)
                self._thread.start()
            self._woken[saver] = None
            self._changed.notify_all()

    def forget(self) -> None:
        """In a forked child: the thread stayed with the parent."""
        self.__init__()  # type: ignore[misc]

    def _work(self) -> None:
        waiting: dict[Saver, None] = {}
        while True:
            now = time.monotonic()
            nearest: float | None = None
            for saver in list(waiting):
                due = saver.due()
                if due is not None and due <= now:
                    self._save(saver)
                    due = saver.due()
                if due is None:
                    del waiting[saver]
                else:
                    nearest = due if nearest is None else min(nearest, due)
            with self._changed:
                if not self._woken:
                    self._changed.wait(None if nearest is None else max(0.0, nearest - time.monotonic()))
                waiting.update(self._woken)
                self._woken = {}

    def _save(self, saver: Saver) -> None:
        try:
            saver.save()
        except Exception:
            _log.exception("runfold: saving failed for a reason that should not exist")
            saver.failure, saver._retry_at = "saving failed", time.monotonic() + _RETRY


pump = Pump()
