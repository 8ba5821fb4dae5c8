"""The sender's side of a spool: read frames from the first unacknowledged one on, and free acknowledged segments."""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .frames import MAGIC, MAX_PAYLOAD_BYTES, SpoolFrame, next_whole, scan
from .layout import ACKED, remove_spool, segment_path, segments
from .writer import SpoolPosition


@dataclass(frozen=True, slots=True)
class DamagedRange:
    """Bytes of a segment that can't be decoded although frames follow them, or a file that is not a segment."""

    path: Path
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.size} bytes at offset {self.offset} can't be read; the file is left alone"


class SpoolReader:
    """Reads one spool while its owner writes it (`live`), or after the owner is gone. Used by one thread at a time.

    A truncated last frame is ignored: a live owner is still writing it, and a dead one will never complete it.
    """

    def __init__(self, directory: Path, *, live: bool = False, freed: Callable[[int], None] | None = None) -> None:
        """`freed` is called with the number of each segment that was deleted."""
        self._directory, self._live, self._freed = directory, live, freed
        self.acked: SpoolPosition = (0, 0) if live else _read_acked(directory)
        self.damages: list[DamagedRange] = []
        self._skipped: set[int] = set()

    def read(self, max_bytes: int) -> list[tuple[SpoolFrame, SpoolPosition]]:
        """Return unacknowledged frames, each with its end position.

        Stops after about `max_bytes`, but returns at least one frame if there is one.
        """
        numbers = [n for n in segments(self._directory) if n >= self.acked[0]]
        found: list[tuple[SpoolFrame, SpoolPosition]] = []
        for number in numbers:
            offset = self.acked[1] if number == self.acked[0] else 0
            last = number == numbers[-1]
            for frame in self._read_segment(number, offset, max_bytes, last):
                found.append((frame, (number, frame.end)))
                max_bytes -= frame.size
                if max_bytes <= 0:
                    return found
        return found

    def acknowledge(self, end: SpoolPosition) -> None:
        """Mark everything before `end` as delivered, and delete segments that hold nothing else."""
        self.acked = end
        for number in segments(self._directory):
            if number < end[0]:
                self._drop(number)
                if self._freed:
                    self._freed(number)
        try:
            _write_acked(self._directory, end)
        except OSError:
            pass  # the frames are sent again one day, and count once

    def skip(self, end: SpoolPosition) -> None:
        """Continue at `end` because nothing before it can be read. The skipped segments keep their content, renamed."""
        self._skipped.update(number for number in segments(self._directory) if number <= end[0])
        self.acknowledge(end)

    def finish(self) -> None:
        """Remove the spool after its last frame was delivered. Damaged segments stay, renamed to `.damaged`."""
        for number in segments(self._directory):
            self._drop(number)
        remove_spool(self._directory)

    def _drop(self, number: int) -> None:
        path = segment_path(self._directory, number)
        try:
            if number in self._skipped:
                path.rename(path.with_suffix(".damaged"))
            else:
                path.unlink()
        except FileNotFoundError:
            pass
        if self._freed:
            self._freed(number)

    def count(self) -> tuple[int, int]:
        """Count the points and the other frames that are not acknowledged."""
        points = facts = 0
        for number in segments(self._directory):
            if number < self.acked[0]:
                continue
            offset = self.acked[1] if number == self.acked[0] else 0
            for frame in self._read_segment(number, offset, 2**62, True):
                points += frame.points
                facts += frame.points == 0
        return points, facts

    def _read_segment(self, number: int, offset: int, max_bytes: int, last: bool) -> list[SpoolFrame]:
        path = segment_path(self._directory, number)
        try:
            with path.open("rb") as file:
                if offset < len(MAGIC):
                    if (magic := file.read(len(MAGIC))) != MAGIC:
                        if not MAGIC.startswith(magic):
                            self._record_damage(number, 0, os.path.getsize(path))
                        return []
                    offset = len(MAGIC)
                file.seek(offset)
                # Room for one more frame of any size, so a large frame is not mistaken for a truncated one.
                data = file.read(min(max_bytes + MAX_PAYLOAD_BYTES, 2**31))
                reached_end = not file.read(1)
        except FileNotFoundError:
            return []
        frames: list[SpoolFrame] = []
        at = 0
        while True:
            for frame in scan(data, at, offset):
                frames.append(frame)
                at = frame.end - offset
                max_bytes -= frame.size
                if max_bytes <= 0:
                    return frames
            # The rest may be a frame that the owner is writing, or one that `data` holds only in part.
            if at == len(data) or (self._live and last) or (frames and not reached_end):
                return frames
            start = next_whole(data, at)
            if start is None:
                return frames
            self._record_damage(number, offset + at, start - at)
            at = start

    def _record_damage(self, number: int, offset: int, size: int) -> None:
        damage = DamagedRange(segment_path(self._directory, number), offset, size)
        self._skipped.add(number)
        if damage not in self.damages:
            self.damages.append(damage)


def _write_acked(directory: Path, end: SpoolPosition) -> None:
    text = b"%010d %012d" % end
    descriptor = os.open(directory / ACKED, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, b"%s %08x\n" % (text, zlib.crc32(text)), 0)
    finally:
        os.close(descriptor)


def _read_acked(directory: Path) -> SpoolPosition:
    """Return where sending resumes. Without a readable file that is the beginning: repeated events count once."""
    try:
        text, _, checksum = (directory / ACKED).read_bytes().rstrip(b"\n").rpartition(b" ")
        number, offset = text.split(b" ")
        if int(checksum, 16) == zlib.crc32(text):
            return int(number), int(offset)
    except (OSError, ValueError):
        pass
    return (0, 0)
