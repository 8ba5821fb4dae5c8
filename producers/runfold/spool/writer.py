"""The owner's side of a spool: append frames to segment files."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .frames import MAGIC
from .layout import segment_path

SEGMENT_BYTES = 4 * 1024 * 1024
"""Size at which a new segment begins. Disk space is freed by whole segments."""
SpoolPosition = tuple[int, int]
"""Segment number, and offset in the segment in bytes."""


class SpoolWriter:
    """Appends to one spool. Used by one thread at a time; any thread may read `end` and `size`."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        fsync: bool = False,
        repair: Callable[[], None] = lambda: None,
    ) -> None:
        """`repair` is called before each append and recreates the directory if it is missing."""
        self._directory, self._segment_bytes, self._fsync, self._repair = directory, segment_bytes, fsync, repair
        self._sizes: dict[int, int] = {0: 0}
        self._kept: bytes | None = None
        self._kept_at: SpoolPosition | None = None
        self._kept_until: Callable[[], bool] = lambda: True
        self.end: SpoolPosition = (0, 0)
        """End of the last frame that is complete on disk."""
        self.points = self.facts = 0
        """Number of points and of other frames appended."""

    @property
    def size(self) -> int:
        """Bytes on disk, acknowledged or not."""
        return sum(list(self._sizes.values()))

    def keep(self, frame: bytes, until: Callable[[], bool]) -> None:
        """Rewrite this frame whenever its file disappears, `until` it has been delivered. The caller appends it."""
        self._kept, self._kept_until = frame, until

    def append(self, frames: Sequence[bytes]) -> int:
        """Append as many frames as fit on the disk, in order, and return how many.

        OSError if not even the first fits.
        """
        self._repair()
        again = self._lost_frames()
        return max(0, self._append([*again, *frames]) - len(again))

    def _lost_frames(self) -> list[bytes]:
        if self._kept is None or self._kept_at is None:
            return []
        if self._kept_until():
            self._kept = None
            return []
        return [] if self._exists(*self._kept_at) else [self._kept]

    def _append(self, frames: Sequence[bytes]) -> int:
        done = 0
        while done < len(frames):
            number, offset = self.end
            if offset >= self._segment_bytes or not self._exists(number, offset):
                number, offset = number + 1, 0
            count, size = done, offset
            while count < len(frames) and (count == done or size + len(frames[count]) <= self._segment_bytes):
                size += len(frames[count])
                count += 1
            try:
                self._write(number, offset, frames[done:count])
            except OSError:
                if done:
                    return done
                raise
            done = count
        return done

    def _write(self, number: int, offset: int, frames: Sequence[bytes]) -> None:
        data = memoryview(b"".join(frames if offset else (MAGIC, *frames)))
        descriptor = os.open(segment_path(self._directory, number), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            at = offset
            try:
                while data:
                    written = os.pwrite(descriptor, data, at)
                    at, data = at + written, data[written:]
                if self._fsync:
                    os.fdatasync(descriptor)
                    if not offset:
                        _sync_directory(self._directory)
            except OSError:
                # The next frame must not follow a piece of this one.
                os.ftruncate(descriptor, offset)
                raise
        finally:
            os.close(descriptor)
        self._sizes[number] = at
        self.end = (number, at)
        if any(frame is self._kept for frame in frames):
            self._kept_at = self.end

    def _exists(self, number: int, offset: int) -> bool:
        """Return whether the segment still reaches `offset`. A reader can't pass a hole in a file."""
        try:
            return not offset or os.stat(segment_path(self._directory, number)).st_size >= offset
        except FileNotFoundError:
            self.forget(number)
            return False

    def forget(self, number: int) -> None:
        """Stop counting a segment that was deleted."""
        self._sizes.pop(number, None)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
