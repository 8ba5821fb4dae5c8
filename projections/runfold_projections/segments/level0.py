"""Segments of level 0: one batch's frames of one (run, attempt, rank, branch), with the log offsets of their rows."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct

import cramjam
import msgspec
import numpy as np
from numpy.typing import NDArray

from runfold_projections.core.turns import Turns
from runfold_schemas.codec import metrics
from runfold_schemas.events.frames import Frame

from .distinct_points import Columns
from .frame_groups import LocatedFrame, RowOffsets

_ZSTD_LEVEL = 1
_CACHED_SEGMENT_BYTES = 64 * 1024
"""Largest segment whose decoded frames are cached. A batch of 1,000 metrics has 30 kB, and 1 MB decoded."""
_SIZE = Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[list[tuple[int, int]]])


def encode_level0(frames: Sequence[Frame], offsets: Sequence[RowOffsets] = ()) -> bytes:
    """Encode a segment. Frames use the wire's codec. Without `offsets`, all rows count as logged at offset 0."""
    return _segment(metrics.encode_frames(frames), offsets)


async def encode_level0_in_slices(frames: Sequence[Frame], offsets: Sequence[RowOffsets], turns: Turns) -> bytes:
    """Encode as `encode_level0`, yielding to the event loop when a turn is over."""
    encoding = metrics.FramesEncoding()
    for frame in frames:
        if turns.is_over:
            await turns.end()
        encoding.add(frame)
    return _segment(encoding.whole(), offsets)


def _segment(frames: bytes, offsets: Sequence[RowOffsets]) -> bytes:
    head = _encoder.encode(offsets)
    return b"".join((_SIZE.pack(len(head)), head, bytes(cramjam.zstd.compress(frames, level=_ZSTD_LEVEL))))


def decode_level0(data: bytes) -> tuple[Frame, ...]:
    """Decode the frames of a segment."""
    start = _SIZE.size + _SIZE.unpack_from(data)[0]
    return metrics.decode_frames(bytes(cramjam.zstd.decompress(memoryview(data)[start:])))


def decode_located(data: bytes) -> list[LocatedFrame]:
    """Decode the frames of a segment and the offsets of their rows."""
    frames = decode_level0(data)
    head = _decoder.decode(data[_SIZE.size : _SIZE.size + _SIZE.unpack_from(data)[0]])
    runs = head or [[(0, frame.rows)] for frame in frames]
    return [(frame, _expanded(offsets)) for frame, offsets in zip(frames, runs, strict=True)]


def _expanded(runs: RowOffsets) -> NDArray[np.int64]:
    offsets, rows = zip(*runs, strict=True)
    return np.repeat(np.array(offsets, np.int64), rows)


@lru_cache(maxsize=16)
def _frames_by_key(data: bytes) -> dict[str, list[Frame]]:
    """Decode a small segment. Cached, since a reader that goes through a run key by key needs it many times."""
    found: dict[str, list[Frame]] = {}
    for frame in decode_level0(data):
        for key in dict.fromkeys(frame.keys):
            found.setdefault(key, []).append(frame)
    return found


def read_level0_key(data: bytes, key: str, end_offset: int | None = None) -> Columns:
    """Read the points of one key: all, or those logged before an offset."""
    steps, times, values = [], [], []
    located: Iterable[tuple[Frame, NDArray[np.int64] | None]]
    if end_offset is not None:
        located = decode_located(data)
    elif len(data) <= _CACHED_SEGMENT_BYTES:
        located = ((frame, None) for frame in _frames_by_key(data).get(key, ()))
    else:
        located = ((frame, None) for frame in decode_level0(data))
    for frame, offsets in located:
        if key in frame.keys:
            column = frame.keys.index(key)
            kept = slice(None) if offsets is None or end_offset is None else offsets < end_offset
            steps.append(np.frombuffer(frame.steps, np.int64)[kept])
            times.append(np.frombuffer(frame.times, np.int64)[kept])
            table = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
            values.append(table[kept, column])
    if not steps:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    return np.concatenate(steps), np.concatenate(times), np.concatenate(values)
