"""Frames of a segment file: length, checksum, kind, number of points, payload. Pure: bytes in, frames out."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from runfold_schemas.codec.batch import MAX_BATCH_BYTES

MAGIC = b"RUNFOLD-SPOOL-1\n"
"""What a segment file begins with."""

MOST_PAYLOAD = MAX_BATCH_BYTES
"""A length beyond this, in bytes, is damage: no record is larger."""

_HEAD = struct.Struct("<IIBI")
_CHECKED_FROM = 8


class Kind(IntEnum):
    """What a frame holds."""

    CREATION = 1
    """A run's creation that still lacks its experiment's id (JSON)."""
    FACT = 2
    """A record of `runs`, as it stands in a batch; its outcome is waited for."""
    METRICS = 3
    """A record of `metrics`, as it stands in a batch."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as read; `end` is the offset behind it in its file."""

    kind: Kind
    points: int
    payload: bytes
    end: int

    @property
    def size(self) -> int:
        """Bytes that it takes in the file."""
        return _HEAD.size + len(self.payload)


def pack(kind: Kind, points: int, payload: bytes) -> bytes:
    """One frame as bytes."""
    checked = struct.pack("<BI", kind, points)
    return _HEAD.pack(len(payload), zlib.crc32(payload, zlib.crc32(checked)), kind, points) + payload


def scan(data: bytes, at: int = 0, base: int = 0) -> Iterator[Frame]:
    """Whole frames from `at` on, up to the first that is cut off or damaged; `base` is where `data` begins in its file."""
    while (frame := _read(data, at, base)) is not None:
        yield frame
        at = frame.end - base


def next_whole(data: bytes, at: int) -> int | None:
    """Where the next whole frame begins at or behind `at`; None if there is none."""
    for start in range(at, len(data) - _HEAD.size + 1):
        length, _, kind, _ = _HEAD.unpack_from(data, start)
        if 0 < kind <= len(Kind) and 0 < length <= len(data) - start - _HEAD.size and _read(data, start, 0) is not None:
            return start
    return None


def _read(data: bytes, at: int, base: int) -> Frame | None:
    start = at + _HEAD.size
    if start > len(data):
        return None
    length, checksum, kind, points = _HEAD.unpack_from(data, at)
    end = start + length
    if length > MOST_PAYLOAD or end > len(data) or not 0 < kind <= len(Kind):
        return None
    payload = data[start:end]
    if zlib.crc32(payload, zlib.crc32(data[at + _CHECKED_FROM : start])) != checksum:
        return None
    return Frame(Kind(kind), points, payload, base + end)
