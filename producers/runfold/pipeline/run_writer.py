"""One process's writer of one run: connects buffer, spool and sender."""

import logging
import os
import tempfile
import threading
import time
from array import array
from collections.abc import Iterable
from pathlib import Path

from runfold.errors import NotConnected, SdkError
from runfold.settings import Settings
from runfold.spool import layout
from runfold.spool.frames import FrameKind, SpoolFrame, pack
from runfold.spool.reader import SpoolReader
from runfold.spool.usage import SpoolUsage
from runfold.spool.writer import SEGMENT_BYTES, SpoolWriter
from runfold_schemas.codec.batch import encode_item
from runfold_schemas.codec.metrics import check_frame
from runfold_schemas.errors import BadEvent
from runfold_schemas.events.base import Fact
from runfold_schemas.events.frames import Frame, Point, from_points
from runfold_schemas.events.metrics import BranchFact

from .buffer import RUN_FINISHED, Buffer
from .columns import chunks
from .encoder import RunEncoder
from .flusher import Flusher, flush_thread
from .outbox import Outbox
from .rows import Keys, RowReader
from .run_creation import Creation
from .sender import Sender

_log = logging.getLogger("runfold")
_MIN_SEGMENT_BYTES = 4 * 1024
_QUIET_SECONDS = 3.0
"""How long the end of a run waits before it logs that it waits."""
_LATE_SAVE_TIMEOUT_SECONDS = 0.25
"""How long a log call that finds old rows waits for another thread that is saving."""
_LATE_SAVE_PAUSE_SECONDS = 1.0
"""Pause after such a call failed, because the disk is full or hangs."""


class RunWriter:
    """Accepts a run's rows and facts, saves them to the spool, and hands them to the sender. Thread-safe.

    Without a sender it is offline, and everything stays in the spool.
    """

    def __init__(self, settings: Settings, encoder: RunEncoder, info: layout.SpoolInfo, sender: Sender | None) -> None:
        self._settings, self._encoder, self._sender = settings, encoder, sender
        self._info = info
        self._directory, self._lock = _create_spool(settings.spool_dir, info, encoder.writer.id)
        segment = max(_MIN_SEGMENT_BYTES, min(SEGMENT_BYTES, settings.spool_bytes // 16))
        self._spool = SpoolWriter(
            self._directory, segment_bytes=segment, fsync=settings.spool_fsync, repair=self._repair_spool
        )
        frame = min(settings.frame_bytes, settings.spool_bytes // 8)
        self._buffer = Buffer(settings.buffer_bytes, frame, settings.linger, self._wake, block=settings.spool_blocks)
        usage = SpoolUsage(self._directory, lambda: self._spool.size)
        self._flusher = Flusher(self._buffer, encoder, self._spool, settings.spool_bytes, self._saved, usage.size)
        self._flusher.update_limit()
        reader = SpoolReader(self._directory, live=True, freed=self._freed)
        self.outbox = Outbox(reader, encoder.run_id, end=lambda: self._spool.end)
        # Held while a fact gets its sequence number and its place in the buffer, so the two orders agree.
        self._facts = threading.Lock()
        self._disowned = ""
        self._warned_full = False
        self._save_again_at = 0.0
        if sender is not None:
            sender.add(self.outbox)

    @property
    def directory(self) -> Path:
        """Directory of the spool."""
        return self._directory

    @property
    def rank(self) -> int | None:
        """Rank of this process among those that write the run; None if it is the only one."""
        return self._encoder.writer.rank

    @property
    def dropped(self) -> tuple[int, int]:
        """Number of points and of facts dropped for lack of room."""
        return self._buffer.dropped.points, self._buffer.dropped.facts

    def add_row(self, keys: Keys, values: "array[float]", step: int | None) -> None:
        """Append a row; see Buffer.add_row. Warns the first time that a row is dropped."""
        buffer = self._buffer
        if not buffer.add_row(keys, values, step):
            self._warn_full()
        if buffer.late:
            self._save_late()

    def add_columns(self, keys: Keys, steps: "array[int] | None", values: "array[float]") -> None:
        """Append many rows at once; `steps` defaults to continuing from the last one.

        Saves to the spool by itself when the rows do not fit into memory.
        """
        count = len(values) // len(keys.names)
        for rows in chunks(keys, steps or array("q", bytes(8 * count)), values):
            if not self._buffer.add_rows(rows, continue_steps=steps is None):
                self._warn_full()
            if self._buffer.is_half_full:
                self._flusher.save()
            elif self._buffer.late:
                self._save_late()

    def add_points(self, points: Iterable[Point], reader: RowReader) -> None:
        """Append points with their own times, and possibly a model or dataset.

        ValueError or TypeError if one can't be stored.
        """
        frames = from_points(points)
        for frame in frames:
            _check(frame, reader)
        for frame in frames:
            keys = reader.keys(frame.keys)
            plain = frame.model_id is None and frame.dataset_name is None and frame.dataset_digest is None
            if not plain:
                if not self._buffer.add_frame(frame):
                    self._warn_full()
                continue
            width = len(frame.keys)
            for row, (step, time_ms) in enumerate(zip(frame.steps, frame.times, strict=True)):
                values = frame.values[row * width : (row + 1) * width]
                if not self._buffer.add_row(keys, values, step, time_ms):
                    self._warn_full()
        if self._buffer.late:
            self._save_late()

    def add_fact(self, fact: Fact, *, last: bool = False) -> None:
        """Append a fact. The `last` one is never dropped and closes the writer."""
        with self._facts:
            frame = pack(FrameKind.FACT, 0, encode_item(self._encoder.fact(fact)))
            accepted = self._buffer.add_fact(frame, last=last)
        if not accepted:
            self._warn_full()

    def add_branch_event(self, event: BranchFact, step: int | None = None) -> None:
        """Append a branch event among the points. The next step defaults to `step` plus 1."""
        self._buffer.add_branch_event(event, step)

    def add_creation(self, creation: Creation) -> None:
        """Append the run's creation, which the sender completes with the experiment's id."""
        frame = pack(FrameKind.CREATION, 0, creation.payload())
        self._spool.keep(frame, until=lambda: self.outbox.created)
        self.outbox.creation = SpoolFrame(FrameKind.CREATION, 0, creation.payload(), 0)
        with self._facts:
            self._buffer.add_fact(frame, must=True)

    def save(self) -> bool:
        """Save all earlier events to disk, and return whether that worked. SdkError in a forked child."""
        self._check_owned()
        return self._flusher.save()

    def flush(self, timeout: float) -> None:
        """Wait until all earlier events are acknowledged, or offline, on disk.

        NotConnected after `timeout` seconds; SdkError in a forked child.
        """
        self._check_owned()
        saved = self._flusher.save()
        end = self._spool.end
        if saved and self._sender is None:
            return
        if not (saved and self._wait_for_end(end, timeout)):
            points, facts = self.unacknowledged()
            why = self._flusher.failure or self.outbox.last_error or "timeout"
            raise NotConnected(f"{points} points and {facts} facts are not acknowledged by {self._settings.uri}: {why}")

    def unacknowledged(self) -> tuple[int, int]:
        """Return the number of points and of facts that are not acknowledged, in memory and on disk."""
        points, facts = self._buffer.unsaved()
        points += self._spool.points - self.outbox.points
        facts += self._spool.facts - self.outbox.facts
        return max(0, points), max(0, facts)

    def close(self, timeout: float) -> None:
        """Save, wait up to `timeout` seconds for acknowledgement, and release the spool, which keeps the rest."""
        delivered = False
        try:
            self._buffer.close(RUN_FINISHED)
            saved = self._flusher.save()
            delivered = saved and self._wait_for_delivery(timeout)
        finally:
            if self._sender is not None:
                self._sender.remove(self.outbox)
            self.outbox.close()
            if delivered:
                self.outbox.remove_files()
            self._lock.release()
        self._report_losses(delivered)

    def disown(self, why: str) -> None:
        """Detach in a forked child: the threads, the locks and the spool belong to the parent."""
        self._lock.release()
        self._disowned = why
        self._buffer = Buffer(1, 1, 0.0)
        self._buffer.close(why)
        self._facts = threading.Lock()

    def _check_owned(self) -> None:
        # The parent saves the events in memory. The child's copies of them would count twice.
        if self._disowned:
            raise SdkError(self._disowned)

    @property
    def _last_error(self) -> str:
        """The latest error of the disk or the server, as the last sentence of a message; empty without one."""
        error = self._flusher.failure or self.outbox.last_error
        return f" Last error: {error}" if error else ""

    def _repair_spool(self) -> None:
        if not (self._directory / layout.ABOUT).is_file():
            self._lock = layout.restore_spool(self._directory, self._info, self._lock)
            _log.error(
                "runfold: run %s: files of its spool %s were deleted by another program; recreating the spool",
                self._encoder.run_id, self._directory,
            )  # fmt: skip

    def _wait_for_end(self, end: tuple[int, int], timeout: float) -> bool:
        if self._sender is None:
            return False
        self._sender.wake(hurry=True)
        return self.outbox.wait(end, timeout)

    def _wait_for_delivery(self, timeout: float) -> bool:
        """Wait for the whole spool, and log a warning if that takes long."""
        end, quiet = self._spool.end, min(timeout, _QUIET_SECONDS)
        if self._wait_for_end(end, quiet):
            return True
        if self._sender is None or self.outbox.blocked or timeout <= quiet:
            return False
        points, facts = self.unacknowledged()
        _log.warning(
            "runfold: run %s waits up to %.0f s more (RUNFOLD_FINISH_TIMEOUT) for %s to accept %d points and %d facts. "
            "Ctrl-C leaves them in %s.%s",
            self._encoder.run_id, timeout - quiet, self._settings.uri, points, facts, self._directory, self._last_error,
        )  # fmt: skip
        return self._wait_for_end(end, timeout - quiet)

    def _save_late(self) -> None:
        """Save in the log call because the background thread is late."""
        now = time.monotonic()
        if now >= self._save_again_at and not self._flusher.save(timeout=_LATE_SAVE_TIMEOUT_SECONDS):
            self._save_again_at = now + _LATE_SAVE_PAUSE_SECONDS

    def _wake(self) -> None:
        flush_thread.wake(self._flusher)

    def _saved(self) -> None:
        if self._sender is not None:
            self._sender.wake()

    def _freed(self, number: int) -> None:
        self._spool.forget(number)
        self._flusher.update_limit()

    def _warn_full(self) -> None:
        if not self._warned_full:
            self._warned_full = True
            _log.warning(
                "runfold: run %s has no room in the spool (%d MB, RUNFOLD_SPOOL_MB) "
                "or in memory (%d MB, RUNFOLD_BUFFER_MB). New points are dropped until some have been sent.%s",
                self._encoder.run_id, self._settings.spool_bytes >> 20, self._settings.buffer_bytes >> 20,
                self._last_error,
            )  # fmt: skip

    def _report_losses(self, delivered: bool) -> None:
        points, facts = self.unacknowledged()
        unsaved = sum(self._buffer.unsaved())
        dropped = self.dropped
        if unsaved or any(dropped):
            _log.error(
                "runfold: run %s lost %d points and facts that could not be written to disk, "
                "and dropped %d points and %d facts for lack of room.%s",
                self._encoder.run_id, unsaved, *dropped, self._last_error,
            )  # fmt: skip
        if delivered and (points or facts):
            _log.error(
                "runfold: run %s lost %d points and %d facts with files of its spool that were deleted or damaged",
                self._encoder.run_id, points, facts,
            )  # fmt: skip
        elif points or facts:
            # A warning offline too: at a lower level, few users would see where their data is.
            _log.warning(
                "runfold: %d points and %d facts of run %s are kept in %s. "
                "The next run on this machine sends them, or `runfold sync %s`.%s",
                points, facts, self._encoder.run_id, self._directory, self._directory, self._last_error,
            )  # fmt: skip


def _check(frame: Frame, reader: RowReader) -> None:
    reader.keys(frame.keys)
    try:
        check_frame(frame)
    except BadEvent as error:
        raise ValueError(str(error)) from None


def _create_spool(root: Path, info: layout.SpoolInfo, writer: str) -> tuple[Path, layout.SpoolLock]:
    try:
        return layout.create_spool(root, info, writer)
    except OSError as error:
        other = Path(tempfile.gettempdir()) / f"runfold-spool-{os.getuid()}"
        try:
            made = layout.create_spool(other, info, writer)
        except OSError as also:
            raise SdkError(
                f"the spool can't be created in {root} (RUNFOLD_SPOOL_DIR): {error}; nor in {other}: {also}"
            ) from error
        _log.warning(
            "runfold: the spool can't be created in %s (RUNFOLD_SPOOL_DIR): %s. Using %s instead", root, error, other
        )
        return made
