"""One process's writing of one run: memory, spool, and the way out, put together."""

import logging
import os
import tempfile
import threading
import time
from array import array
from collections.abc import Iterable
from pathlib import Path

from runfold.errors import NotConnected, SdkError
from runfold.run_creation import Creation
from runfold.settings import Settings
from runfold.spool import frames as framing
from runfold.spool import layout
from runfold.spool.frames import Kind, pack
from runfold.spool.reader import SpoolReader
from runfold.spool.usage import Usage
from runfold.spool.writer import SEGMENT_BYTES, SpoolWriter
from runfold_schemas.codec.batch import encode_item
from runfold_schemas.codec.metrics import check_frame
from runfold_schemas.errors import BadEvent
from runfold_schemas.events.frames import Frame, Point, from_points
from runfold_schemas.events.runs import Fact, LineFact

from .buffer import Buffer
from .columns import chunks
from .encoder import RunEncoder
from .flusher import Saver, pump
from .outbox import Outbox
from .rows import Keys, RowReader
from .sender import Shipper

_log = logging.getLogger("runfold")
_LEAST_SEGMENT = 4 * 1024
_SILENT = 3.0
"""Seconds that the end of a run waits before it says so."""
_PATIENCE = 0.25
"""Seconds that a log call waits for the thread that saves, when it finds rows that are older than they may be."""


class RunWriter:
    """Takes rows and facts of a run, keeps them on disk, and has them sent. Thread-safe.

    Without a shipper it is offline: what it keeps stays on disk.
    """

    def __init__(self, settings: Settings, encoder: RunEncoder, about: layout.About, shipper: Shipper | None) -> None:
        self._settings, self._encoder, self._shipper = settings, encoder, shipper
        self._about = about
        self._directory, self._lock = _make_spool(settings.spool_dir, about, encoder.writer.id)
        segment = max(_LEAST_SEGMENT, min(SEGMENT_BYTES, settings.spool_bytes // 16))
        self._spool = SpoolWriter(
            self._directory, segment_bytes=segment, fsync=settings.spool_fsync, repair=self._repair_spool
        )
        frame = min(settings.frame_bytes, settings.spool_bytes // 8)
        self._buffer = Buffer(settings.buffer_bytes, frame, settings.linger, self._wake, block=settings.spool_blocks)
        usage = Usage(self._directory, lambda: self._spool.size)
        self._saver = Saver(self._buffer, encoder, self._spool, settings.spool_bytes, self._saved, usage.size)
        self._saver.make_room()
        reader = SpoolReader(self._directory, live=True, freed=self._freed)
        self.outbox = Outbox(reader, encoder.run_id, end=lambda: self._spool.end)
        # Sequence and place in the buffer must be taken together.
        self._facts = threading.Lock()
        self._disowned = ""
        self._told_full = False
        self._save_again_at = 0.0
        if shipper is not None:
            shipper.add(self.outbox)

    @property
    def directory(self) -> Path:
        """The spool's."""
        return self._directory

    @property
    def rank(self) -> int | None:
        """Which of the processes that write the run this is; None: it is alone."""
        return self._encoder.writer.rank

    @property
    def refused(self) -> tuple[int, int]:
        """Points and facts that were not taken."""
        return self._buffer.refused.points, self._buffer.refused.facts

    def add_row(self, keys: Keys, values: "array[float]", step: int | None) -> None:
        """See Buffer.add_row; what is refused is told once."""
        buffer = self._buffer
        if not buffer.add_row(keys, values, step):
            self._tell_full()
        if buffer.late:
            self._save_late()

    def add_columns(self, keys: Keys, steps: "array[int] | None", values: "array[float]") -> None:
        """Append many rows at once; without steps they go on from the last one. More than fits into memory is saved by this call itself."""
        count = len(values) // len(keys.names)
        for rows in chunks(keys, steps or array("q", bytes(8 * count)), values):
            if not self._buffer.add_rows(rows, go_on=steps is None):
                self._tell_full()
            if self._buffer.is_half_full:
                self._saver.save()
            elif self._buffer.late:
                self._save_late()

    def add_points(self, points: Iterable[Point], reader: RowReader) -> None:
        """Append points that bring their own times, and perhaps a context. ValueError: a key or step can't be stored; TypeError likewise."""
        frames = from_points(points)
        for frame in frames:
            _check(frame, reader)
        for frame in frames:
            keys = reader.keys(frame.keys)
            plain = frame.model_id is None and frame.dataset_name is None and frame.dataset_digest is None
            if not plain:
                if not self._buffer.add_block(frame):
                    self._tell_full()
                continue
            width = len(frame.keys)
            for row, (step, time_ms) in enumerate(zip(frame.steps, frame.times, strict=True)):
                values = frame.values[row * width : (row + 1) * width]
                if not self._buffer.add_row(keys, values, step, time_ms):
                    self._tell_full()
        if self._buffer.late:
            self._save_late()

    def add_fact(self, fact: Fact, *, last: bool = False) -> None:
        """Append a fact; the `last` one is never refused and closes."""
        with self._facts:
            frame = pack(Kind.FACT, 0, encode_item(self._encoder.fact(fact)))
            taken = self._buffer.add_control(frame, last=last)
        if not taken:
            self._tell_full()

    def add_turn(self, event: LineFact, step: int | None = None) -> None:
        """Append an event of the run's line among its points; steps go on behind `step`."""
        self._buffer.add_turn(event, step)

    def add_creation(self, creation: Creation) -> None:
        """Append the run's creation, to be completed when the experiment is known."""
        frame = pack(Kind.CREATION, 0, creation.payload())
        self._spool.keep(frame, until=lambda: self.outbox.created)
        self.outbox.creation = framing.Frame(Kind.CREATION, 0, creation.payload(), 0)
        with self._facts:
            self._buffer.add_control(frame, must=True)

    def save(self) -> bool:
        """Put all before on disk. False: the disk did not take it. SdkError: disowned."""
        self._check_owned()
        return self._saver.save()

    def flush(self, timeout: float) -> None:
        """Wait until all before is acknowledged, or offline, on disk. NotConnected: it was not, after `timeout` seconds. SdkError: disowned."""
        self._check_owned()
        saved = self._saver.save()
        end = self._spool.end
        if saved and self._shipper is None:
            return
        if not (saved and self._sent(end, timeout)):
            points, facts = self.left()
            why = self._saver.failure or self.outbox.last_error or "it is slow"
            raise NotConnected(f"{points} points and {facts} facts are not acknowledged by {self._settings.uri}: {why}")

    def left(self) -> tuple[int, int]:
        """Points and facts that are not acknowledged, in memory and on disk."""
        points, facts = self._buffer.left()
        points += self._spool.points - self.outbox.points
        facts += self._spool.facts - self.outbox.facts
        return max(0, points), max(0, facts)

    def close(self, timeout: float) -> None:
        """Save, wait at most `timeout` seconds until all is acknowledged, and let go; what is left stays in the spool."""
        arrived = False
        try:
            self._buffer.close("the run is finished; nothing can be logged to it any more")
            saved = self._saver.save()
            arrived = saved and self._sent_in_time(timeout)
        finally:
            if self._shipper is not None:
                self._shipper.remove(self.outbox)
            self.outbox.close()
            if arrived:
                self.outbox.finish()
            self._lock.release()
        self._tell_left(arrived)

    def disown(self, why: str) -> None:
        """In a forked child: threads, locks and the right to the spool stayed with the parent."""
        self._lock.release()
        self._disowned = why
        self._buffer = Buffer(1, 1, 0.0)
        self._buffer.close(why)
        self._facts = threading.Lock()

    def _check_owned(self) -> None:
        # What lies in memory is the parent's, who saves it: the child's copy would come a second time.
        if self._disowned:
            raise SdkError(self._disowned)

    def _repair_spool(self) -> None:
        if not (self._directory / layout.ABOUT).is_file():
            self._lock = layout.make_again(self._directory, self._about, self._lock)
            _log.error(
                "runfold: run %s: somebody deleted files in %s, which is its spool; it is made again",
                self._encoder.run_id, self._directory,
            )  # fmt: skip

    def _sent(self, end: tuple[int, int], timeout: float) -> bool:
        if self._shipper is None:
            return False
        self._shipper.wake(hurry=True)
        return self.outbox.wait(end, timeout)

    def _sent_in_time(self, timeout: float) -> bool:
        """As `_sent`, but not in silence for long."""
        end, silent = self._spool.end, min(timeout, _SILENT)
        if self._sent(end, silent):
            return True
        if self._shipper is None or self.outbox.blocked or timeout <= silent:
            return False
        points, facts = self.left()
        _log.warning(
            "runfold: run %s ends, and waits at most %.0f s more (RUNFOLD_FINISH_TIMEOUT) until %s has taken %d points and %d facts; "
            "Ctrl-C leaves them in %s %s",
            self._encoder.run_id, timeout - silent, self._settings.uri, points, facts, self._directory, self.outbox.last_error,
        )  # fmt: skip
        return self._sent(end, timeout - silent)

    def _save_late(self) -> None:
        """The background thread did not come in time, so this one does its work; a disk that hangs or is full is left alone for a second."""
        now = time.monotonic()
        if now >= self._save_again_at and not self._saver.save(patience=_PATIENCE):
            self._save_again_at = now + 1.0

    def _wake(self) -> None:
        pump.wake(self._saver)

    def _saved(self) -> None:
        if self._shipper is not None:
            self._shipper.wake()

    def _freed(self, number: int) -> None:
        self._spool.forget(number)
        self._saver.make_room()

    def _tell_full(self) -> None:
        if not self._told_full:
            self._told_full = True
            _log.warning(
                "runfold: run %s has no room in the spool (%d MB, RUNFOLD_SPOOL_MB) or in memory (%d MB, RUNFOLD_BUFFER_MB): "
                "new points are refused until some have been sent; %s",
                self._encoder.run_id, self._settings.spool_bytes >> 20, self._settings.buffer_bytes >> 20,
                self._saver.failure or self.outbox.last_error,
            )  # fmt: skip

    def _tell_left(self, arrived: bool) -> None:
        points, facts = self.left()
        unsaved = sum(self._buffer.left())
        refused = self.refused
        if unsaved or any(refused):
            _log.error(
                "runfold: run %s lost %d points and facts that the disk did not take, %d and %d that were refused for want of room; %s",
                self._encoder.run_id, unsaved, *refused, self._saver.failure or self.outbox.last_error,
            )  # fmt: skip
        if arrived and (points or facts):
            _log.error(
                "runfold: run %s lost %d points and %d facts with files of its spool that somebody deleted or damaged",
                self._encoder.run_id, points, facts,
            )  # fmt: skip
        elif points or facts:
            # Offline too: the default level hides what is below, and nobody would know where the data lies.
            _log.warning(
                "runfold: %d points and %d facts of run %s are kept in %s: the next run on this machine sends them, or `runfold sync %s`%s",
                points, facts, self._encoder.run_id, self._directory, self._directory, f"; {self.outbox.last_error}" if self.outbox.last_error else "",
            )  # fmt: skip


def _check(frame: Frame, reader: RowReader) -> None:
    reader.keys(frame.keys)
    try:
        check_frame(frame)
    except BadEvent as error:
        raise ValueError(str(error)) from None


def _make_spool(root: Path, about: layout.About, writer: str) -> tuple[Path, layout.SpoolLock]:
    try:
        return layout.make(root, about, writer)
    except OSError as error:
        other = Path(tempfile.gettempdir()) / f"runfold-spool-{os.getuid()}"
        try:
            made = layout.make(other, about, writer)
        except OSError as also:
            raise SdkError(
                f"no spool can be made in {root} (RUNFOLD_SPOOL_DIR): {error}; nor in {other}: {also}"
            ) from error
        _log.warning("runfold: no spool can be made in %s (RUNFOLD_SPOOL_DIR): %s; using %s", root, error, other)
        return made
