"""The sender's side of a spool: frames in order from the first that is not acknowledged; what is acknowledged frees its space."""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .frames import MAGIC, MOST_PAYLOAD, Frame, next_whole, scan
from .layout import ACKED, remove, segment_path, segments
from .writer import Place


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no frames, though frames follow them, or the file is no segment of ours."""

    path: Path
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.size} bytes from {self.offset} on can't be read; the file is left alone"


class SpoolReader:
    """Reads one spool, while its owner writes it (`live`) or after that. Used by one thread at a time.

    A tail that is cut off is not there: a live owner is just writing it, a dead one will never finish it.
    """

    def __init__(self, directory: Path, *, live: bool = False, freed: Callable[[int], None] | None = None) -> None:
        self._directory, self._live, self._freed = directory, live, freed
        self.acked: Place = (0, 0) if live else _read_acked(directory)
        self.damages: list[Damage] = []
        self._skipped: set[int] = set()

    def read(self, most_bytes: int) -> list[tuple[Frame, Place]]:
        """Frames behind the acknowledged ones, with the place behind each: at least one if there is one, else some `most_bytes`."""
        numbers = [n for n in segments(self._directory) if n >= self.acked[0]]
        found: list[tuple[Frame, Place]] = []
        for number in numbers:
            offset = self.acked[1] if number == self.acked[0] else 0
            last = number == numbers[-1]
            for frame in self._segment(number, offset, most_bytes, last):
                found.append((frame, (number, frame.end)))
                most_bytes -= frame.size
                if most_bytes <= 0:
                    return found
        return found

    def acknowledge(self, place: Place) -> None:
        """All before `place` has arrived: it is not sent again, and segments that hold nothing else are deleted."""
        self.acked = place
        for number in segments(self._directory):
            if number < place[0]:
                self._drop(number)
                if self._freed:
                    self._freed(number)
        try:
            _write_acked(self._directory, place)
        except OSError:
            pass  # then it is sent again one day, and counts once

    def skip(self, place: Place) -> None:
        """Nothing before `place` can be read any more: go on behind it, and leave what there is under a name of its own."""
        self._skipped.update(number for number in segments(self._directory) if number <= place[0])
        self.acknowledge(place)

    def finish(self) -> None:
        """Nothing more will come: take away what was read, and give damaged segments a name under which they stay."""
        for number in segments(self._directory):
            self._drop(number)
        remove(self._directory)

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
        """Points and other frames that are not acknowledged."""
        points = facts = 0
        for number in segments(self._directory):
            if number < self.acked[0]:
                continue
            offset = self.acked[1] if number == self.acked[0] else 0
            for frame in self._segment(number, offset, 2**62, True):
                points += frame.points
                facts += frame.points == 0
        return points, facts

    def _segment(self, number: int, offset: int, most_bytes: int, last: bool) -> list[Frame]:
        path = segment_path(self._directory, number)
        try:
            with path.open("rb") as file:
                if offset < len(MAGIC):
                    if (magic := file.read(len(MAGIC))) != MAGIC:
                        if not MAGIC.startswith(magic):
                            self._damaged(number, 0, os.path.getsize(path))
                        return []
                    offset = len(MAGIC)
                file.seek(offset)
                # One frame more than asked for, so that a large one is not taken for one that is cut off.
                data = file.read(min(most_bytes + MOST_PAYLOAD, 2**31))
                whole = not file.read(1)
        except FileNotFoundError:
            return []
        frames: list[Frame] = []
        at = 0
        while True:
            for frame in scan(data, at, offset):
                frames.append(frame)
                at = frame.end - offset
                most_bytes -= frame.size
                if most_bytes <= 0:
                    return frames
            if at == len(data) or (self._live and last) or (frames and not whole):
                return frames
            start = next_whole(data, at)
            if start is None:
                return frames
            self._damaged(number, offset + at, start - at)
            at = start

    def _damaged(self, number: int, offset: int, size: int) -> None:
        damage = Damage(segment_path(self._directory, number), offset, size)
        self._skipped.add(number)
        if damage not in self.damages:
            self.damages.append(damage)


def _write_acked(directory: Path, place: Place) -> None:
    text = b"%010d %012d" % place
    descriptor = os.open(directory / ACKED, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, b"%s %08x\n" % (text, zlib.crc32(text)), 0)
    finally:
        os.close(descriptor)


def _read_acked(directory: Path) -> Place:
    """Where sending goes on; the beginning if nothing readable says so, since what arrives again counts once."""
    try:
        text, _, checksum = (directory / ACKED).read_bytes().rstrip(b"\n").rpartition(b" ")
        number, offset = text.split(b" ")
        if int(checksum, 16) == zlib.crc32(text):
            return int(number), int(offset)
    except (OSError, ValueError):
        pass
    return (0, 0)
