"""Builds compacted segments out of frames. Their layout is described in `compacted`."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cramjam
import msgspec
import numpy as np
from numpy.typing import NDArray

from runfold_schemas.events.frames import Frame

from .byte_planes import encode_floats, encode_integers
from .compacted import NO_CONTEXT, Context, Grid, PointList, SegmentHead, Slice
from .frame_groups import LocatedFrame, join_frames_with

MOST_KEYS = 512
"""Keys of a segment."""
CHUNK_BYTES = 64 * 1024
"""Columns of a grid are compressed together up to this size, which is decompressed to read one short column."""
LEAST_GRID = 16
"""Points below which rows with equal keys go to the list."""
_ZSTD_LEVEL = 3
_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment to be stored: `data` begin with a head of `head` bytes; keys from `first_key` to `last_key`."""

    first_key: str
    last_key: str
    points: int
    head: int
    data: bytes


def build_segments(frames: Iterable[Frame]) -> list[NewSegment]:
    """Build segments of all points of the frames, in the order of their keys. All rows count as logged at offset 0."""
    return build_located((frame, np.zeros(frame.rows, np.int64)) for frame in frames)


def build_located(frames: Iterable[LocatedFrame]) -> list[NewSegment]:
    """Build segments of all points of the frames, in the order of their keys, with the log offsets of their rows."""
    joined = join_frames_with(frames)
    keys = sorted({key for frame, _ in joined for key in frame.keys})
    groups = [keys[start : start + MOST_KEYS] for start in range(0, len(keys), MOST_KEYS)]
    ranks = {key: n for n, key in enumerate(keys)}
    rest = _LoosePoints()
    parts: list[list[_FramePart]] = [[] for _ in groups]
    for frame, offsets in joined:
        if len(frame.values) < LEAST_GRID and _context_of(frame) == NO_CONTEXT:
            rest.add(frame, np.concatenate(offsets), ranks)
            continue
        for n, part in _split(frame, np.concatenate(offsets), ranks):
            parts[n].append(part)
    # Freed before the segments are built: both take as much memory again.
    del joined, ranks
    return [
        _built(group, own, loose) for group, own, loose in zip(groups, parts, rest.by_group(len(groups)), strict=True)
    ]


class _LoosePoints:
    """Points of frames too small for a grid. A run that logs ever new keys has only these, so they share arrays."""

    def __init__(self) -> None:
        self._ranks, self._steps, self._times, self._offsets = (array("q") for _ in range(4))
        self._values = array("d")

    def add(self, frame: Frame, offsets: NDArray[np.int64], ranks: dict[str, int]) -> None:
        """Add all points of a frame, key by key."""
        width = len(frame.keys)
        for n, key in enumerate(frame.keys):
            self._ranks.extend([ranks[key]] * frame.rows)
            self._steps.extend(frame.steps)
            self._times.extend(frame.times)
            self._offsets.extend(offsets.tolist())
            self._values.extend(frame.values[n::width])

    def by_group(self, groups: int) -> Iterator["_SegmentPoints"]:
        """Split the points by their segment."""
        ranks = np.frombuffer(self._ranks, np.int64)
        order = np.argsort(ranks, kind="stable")
        steps, times, offsets = (
            np.frombuffer(column, np.int64)[order] for column in (self._steps, self._times, self._offsets)
        )
        values = np.frombuffer(self._values, np.float64)[order]
        ranks = ranks[order]
        ends = np.searchsorted(ranks, np.arange(1, groups + 1) * MOST_KEYS).tolist()
        for n, (start, end) in enumerate(pairwise((0, *ends))):
            piece = slice(start, end)
            keys = ranks[piece] - n * MOST_KEYS
            yield _SegmentPoints(keys, steps[piece], times[piece], offsets[piece], values[piece])


class _SegmentPoints(NamedTuple):
    """Points of one segment, by key: five arrays of shape (points,). `keys` are indexes of the segment's keys."""

    keys: NDArray[np.int64]
    steps: NDArray[np.int64]
    times: NDArray[np.int64]
    offsets: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _FramePart:
    """A frame's points for one segment. `keys` are indexes of the segment's keys, ascending.

    `values[k, r]` is the value of `keys[k]` at row r.
    """

    keys: NDArray[np.int64]
    steps: NDArray[np.int64]
    times: NDArray[np.int64]
    offsets: NDArray[np.int64]
    values: NDArray[np.float64]
    context: Context


def _context_of(frame: Frame) -> Context:
    return (frame.model_id, frame.dataset_name, frame.dataset_digest)


def _split(frame: Frame, offsets: NDArray[np.int64], ranks: dict[str, int]) -> Iterator[tuple[int, _FramePart]]:
    steps, times = np.frombuffer(frame.steps, np.int64), np.frombuffer(frame.times, np.int64)
    table = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
    own = np.array([ranks[key] for key in frame.keys], np.int64)
    order = np.argsort(own, kind="stable")
    segments = own // MOST_KEYS
    bounds = np.flatnonzero(np.diff(segments[order])) + 1
    for columns in np.split(order, bounds):
        segment = int(segments[columns[0]])
        values = np.ascontiguousarray(table[:, columns].T)
        keys = own[columns] - segment * MOST_KEYS
        yield segment, _FramePart(keys, steps, times, offsets, values, _context_of(frame))


def _built(keys: list[str], parts: Sequence[_FramePart], loose: _SegmentPoints) -> NewSegment:
    body = _Body()
    grids: list[Grid] = []
    small: list[_FramePart] = []
    for part in parts:
        if part.values.size < LEAST_GRID and part.context == NO_CONTEXT:
            small.append(part)
        else:
            grids.append(_grid(part, len(keys), body))
    rest = _point_list(small, loose, len(keys), body) if small or len(loose.keys) else None
    head = bytes(cramjam.zstd.compress(_encoder.encode(SegmentHead(keys, grids, rest)), level=_ZSTD_LEVEL))
    return NewSegment(
        keys[0],
        keys[-1],
        sum(part.values.size for part in parts) + len(loose.values),
        len(head),
        b"".join((head, *body.parts)),
    )


class _Body:
    """Collects what follows the head."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> Slice:
        """Append data and return where they are."""
        added = (self._size, len(data))
        self.parts.append(data)
        self._size += len(data)
        return added


def _grid(part: _FramePart, width: int, body: _Body) -> Grid:
    rows = len(part.steps)
    per_chunk = max(1, CHUNK_BYTES // (8 * rows))
    return Grid(
        rows,
        None if len(part.keys) == width else part.keys.tolist(),
        part.context,
        body.add(encode_integers(part.steps)),
        body.add(encode_integers(part.times)),
        body.add(encode_integers(part.offsets)),
        per_chunk,
        [
            body.add(encode_floats(part.values[start : start + per_chunk]))
            for start in range(0, len(part.keys), per_chunk)
        ],
    )


def _point_list(parts: Sequence[_FramePart], loose: _SegmentPoints, width: int, body: _Body) -> PointList:
    keys = np.concatenate([loose.keys, *(np.repeat(part.keys, len(part.steps)) for part in parts)])
    order = np.argsort(keys, kind="stable")
    steps = np.concatenate([loose.steps, *(np.tile(part.steps, len(part.keys)) for part in parts)])[order]
    times = np.concatenate([loose.times, *(np.tile(part.times, len(part.keys)) for part in parts)])[order]
    offsets = np.concatenate([loose.offsets, *(np.tile(part.offsets, len(part.keys)) for part in parts)])[order]
    values = np.concatenate([loose.values, *(part.values.ravel() for part in parts)])[order]
    return PointList(
        np.bincount(keys, minlength=width).tolist(),
        body.add(encode_integers(steps)),
        body.add(encode_integers(times)),
        body.add(encode_integers(offsets)),
        body.add(encode_floats(values)),
    )
