"""Metric points at rest: a batch's frames of one (run, attempt, rank), merged by key list and compressed, with the offsets that they came at."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import repeat
from struct import Struct
from typing import Any, Generic, TypeVar

import cramjam
import msgspec
import numpy as np

from runfold_projections.core.turns import Turns
from runfold_schemas.codec import metrics
from runfold_schemas.events.frames import Frame

_LEVEL = 1
_REMEMBERED_BYTES = 64 * 1024
"""Bytes of the largest segment whose decoded frames are remembered: a batch of a thousand metrics has 30 kB, and a megabyte decoded."""
_T = TypeVar("_T")
_SIZE = Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[list[tuple[int, int]]])

RowOffsets = Sequence[tuple[int, int]]
"""At which offsets of the log the rows of a frame came, in their order: (offset, rows)."""
LocatedFrame = tuple[Frame, Any]
"""A frame and the offset (int64) that each row came at."""


def join_frames(frames: Iterable[Frame]) -> list[Frame]:
    """Frames with equal keys and context become one, in the order of first appearance; rows keep their order."""
    return [frame for frame, _ in join_frames_with(zip(frames, repeat(None), strict=False))]


def join_frames_with(frames: Iterable[tuple[Frame, _T]]) -> list[tuple[Frame, list[_T]]]:
    """The same for frames that bring something along: each merged one has it of all that it was made of."""
    groups = FrameGroups[_T]()
    for frame, what in frames:
        groups.add(frame, what)
    return groups.found()


class FrameGroups(Generic[_T]):
    """Frames on their way to be merged."""

    def __init__(self) -> None:
        self._groups: dict[tuple[object, ...], tuple[list[Frame], list[_T]]] = {}

    def add(self, frame: Frame, what: _T) -> None:
        """One more frame, unless it is empty."""
        if not frame.rows or not frame.keys:
            return
        alike = (frame.keys, frame.model_id, frame.dataset_name, frame.dataset_digest)
        group = self._groups.get(alike)
        if group is None:
            self._groups[alike] = ([frame], [what])
        else:
            group[0].append(frame)
            group[1].append(what)

    def found(self) -> list[tuple[Frame, list[_T]]]:
        """The merged ones, and what each brought."""
        return [(own[0] if len(own) == 1 else _joined(own), whats) for own, whats in self._groups.values()]


async def join_in_slices(parts: Sequence[tuple[Frame, int]], turns: Turns) -> tuple[list[Frame], list[RowOffsets]]:
    """Merged frames of (frame, offset), and when their rows came. In slices."""
    groups = FrameGroups[tuple[int, int]]()
    for frame, offset in parts:
        if turns.is_over:
            await turns.end()
        groups.add(frame, (offset, frame.rows))
    found = groups.found()
    return [frame for frame, _ in found], [came for _, came in found]


def rows_before(frame: Frame, offsets: Any, below: int) -> Frame:
    """The rows of a frame that came below an offset."""
    kept = offsets < below
    if kept.all():
        return frame
    values: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
    return replace(
        frame,
        steps=array("q", np.frombuffer(frame.steps, np.int64)[kept].tobytes()),
        times=array("q", np.frombuffer(frame.times, np.int64)[kept].tobytes()),
        values=array("d", values[kept].tobytes()),
    )


def _joined(group: list[Frame]) -> Frame:
    first = group[0]
    steps, times, values = array("q"), array("q"), array("d")
    for frame in group:
        steps.extend(frame.steps)
        times.extend(frame.times)
        values.extend(frame.values)
    return Frame(first.keys, steps, times, values, first.model_id, first.dataset_name, first.dataset_digest)


def encode_level0(frames: Sequence[Frame], came: Sequence[RowOffsets] = ()) -> bytes:
    """Bytes of a segment. The frames' columns are written as on the wire, whose codec has its law tested. Of rows of which nothing is
    told, 0 is taken for their offset."""
    return _whole(metrics.encode_frames(frames), came)


async def encode_level0_in_slices(frames: Sequence[Frame], came: Sequence[RowOffsets], turns: Turns) -> bytes:
    """`pack` in slices."""
    encoding = metrics.FramesEncoding()
    for frame in frames:
        if turns.is_over:
            await turns.end()
        encoding.add(frame)
    return _whole(encoding.whole(), came)


def _whole(frames: bytes, came: Sequence[RowOffsets]) -> bytes:
    head = _encoder.encode(came)
    return b"".join((_SIZE.pack(len(head)), head, bytes(cramjam.zstd.compress(frames, level=_LEVEL))))


def decode_level0(data: bytes) -> tuple[Frame, ...]:
    """The frames of a segment."""
    start = _SIZE.size + _SIZE.unpack_from(data)[0]
    return metrics.decode_frames(bytes(cramjam.zstd.decompress(memoryview(data)[start:])))


def decode_located(data: bytes) -> list[LocatedFrame]:
    """The frames of a segment, and when their rows came."""
    frames = decode_level0(data)
    told = _decoder.decode(data[_SIZE.size : _SIZE.size + _SIZE.unpack_from(data)[0]]) or [
        [(0, f.rows)] for f in frames
    ]
    return [(frame, _offsets(came)) for frame, came in zip(frames, told, strict=True)]


def _offsets(came: RowOffsets) -> Any:
    offsets, rows = zip(*came, strict=True)
    return np.repeat(np.array(offsets, np.int64), rows)


@lru_cache(maxsize=16)
def _frames_by_key(data: bytes) -> dict[str, list[Frame]]:
    """The frames of a small segment by each of their keys. Whoever reads a run key by key asks for the same segment again and again."""
    found: dict[str, list[Frame]] = {}
    for frame in decode_level0(data):
        for key in dict.fromkeys(frame.keys):
            found.setdefault(key, []).append(frame)
    return found


def read_level0_key(data: bytes, key: str, below: int | None = None) -> tuple[Any, Any, Any]:
    """Steps (int64), times (int64, ms) and values (float64) of one key in a segment, as NumPy arrays: all, or of what came below an offset."""
    steps, times, values = [], [], []
    dated: Iterable[tuple[Frame, Any]]
    if below is not None:
        dated = decode_located(data)
    elif len(data) <= _REMEMBERED_BYTES:
        dated = ((frame, None) for frame in _frames_by_key(data).get(key, ()))
    else:
        dated = ((frame, None) for frame in decode_level0(data))
    for frame, offsets in dated:
        if key in frame.keys:
            column = frame.keys.index(key)
            kept = slice(None) if offsets is None else offsets < below
            steps.append(np.frombuffer(frame.steps, np.int64)[kept])
            times.append(np.frombuffer(frame.times, np.int64)[kept])
            table: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
            values.append(table[kept, column])
    if not steps:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    return np.concatenate(steps), np.concatenate(times), np.concatenate(values)
