"""The frame format of a segment file: length, checksum, kind, number of points, payload. Pure functions over bytes."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from runfold_schemas.codec.batch import MAX_BATCH_BYTES

MAGIC = b"RUNFOLD-SPOOL-1\n"
"""First bytes of every segment file."""

MAX_PAYLOAD_BYTES = MAX_BATCH_BYTES
"""No record is larger, so a greater length field means damage."""

_HEAD = struct.Struct("<IIBI")
_CHECKED_FROM = 8
"""Offset in the head from which the checksum covers it: kind and number of points."""


class FrameKind(IntEnum):
    """Content of a frame."""

    CREATION = 1
    """A run's creation that still lacks its experiment's id (JSON)."""
    FACT = 2
    """A record of `runs`, encoded as in a batch. The sender waits for its outcome."""
    METRICS = 3
    """A record of `metrics`, encoded as in a batch."""


@dataclass(frozen=True, slots=True)
class SpoolFrame:
    """A decoded frame. `end` is its end offset in the file."""

    kind: FrameKind
    points: int
    payload: bytes
    end: int

    @property
    def size(self) -> int:
        """Size in the file in bytes, head included."""
        return _HEAD.size + len(self.payload)


def pack(kind: FrameKind, points: int, payload: bytes) -> bytes:
    """Encode one frame."""
    checked = struct.pack("<BI", kind, points)
    return _HEAD.pack(len(payload), zlib.crc32(payload, zlib.crc32(checked)), kind, points) + payload


def scan(data: bytes, at: int = 0, base: int = 0) -> Iterator[SpoolFrame]:
    """Yield the complete frames from `at` up to the first truncated or damaged one.

    `base` is the file offset of `data`.
    """
    while (frame := _decode(data, at, base)) is not None:
        yield frame
        at = frame.end - base


def next_whole(data: bytes, at: int) -> int | None:
    """Find the start of the first complete frame at or after `at`; None if there is none."""
    for start in range(at, len(data) - _HEAD.size + 1):
        # Most positions fail this cheap test, so few payloads are checksummed.
        length, _, kind, _ = _HEAD.unpack_from(data, start)
        fits = 0 < length <= len(data) - start - _HEAD.size
        if 0 < kind <= len(FrameKind) and fits and _decode(data, start, 0) is not None:
            return start
    return None


def _decode(data: bytes, at: int, base: int) -> SpoolFrame | None:
    start = at + _HEAD.size
    if start > len(data):
        return None
    length, checksum, kind, points = _HEAD.unpack_from(data, at)
    end = start + length
    if length > MAX_PAYLOAD_BYTES or end > len(data) or not 0 < kind <= len(FrameKind):
        return None
    payload = data[start:end]
    if zlib.crc32(payload, zlib.crc32(data[at + _CHECKED_FROM : start])) != checksum:
        return None
    return SpoolFrame(FrameKind(kind), points, payload, base + end)
