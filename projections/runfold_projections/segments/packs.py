"""Metric points at rest, merged: key after key, so that one key's points are read without the others'.

A pack holds the points of at most `MOST_KEYS` neighbouring keys of one (run, attempt, rank). Rows that wrote the same keys are a grid:
steps and times once, then the values, key by key, cut into chunks of whole columns. Points that make no grid worth its
header lie in one list, ordered by key. Numbers are stored as byte planes (all first bytes, all second bytes, …), whole numbers as differences
first, compressed with zstd: noise stays at 8 bytes, values that began as 32-bit floats take 4 to 5, steps and times hardly any.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import cramjam
import msgspec
import numpy as np

from runfold_schemas.events.frames import Frame

from .level0 import LocatedFrame, decode_level0, decode_located, join_frames_with

MOST_KEYS = 512
CHUNK_BYTES = 64 * 1024
"""Columns of a grid are compressed together up to this size: what is unpacked to read one short column."""
LEAST_GRID = 16
"""Points below which rows with equal keys go to the list."""
_LEVEL = 3

Columns = tuple[Any, Any, Any]
Context = tuple[str | None, str | None, str | None]
Slice = tuple[int, int]
_NO_CONTEXT: Context = (None, None, None)


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A pack as it lies in a row: `data` begins with a head of `head` bytes; keys from `first_key` to `last_key`."""

    first_key: str
    last_key: str
    points: int
    head: int
    data: bytes


class _Grid(msgspec.Struct, array_like=True):
    rows: int
    keys: list[int] | None
    """Indexes of its keys; None: all of the pack's."""
    context: Context
    steps: Slice
    times: Slice
    offsets: Slice
    """At which offset of the log each row came."""
    per_chunk: int
    chunks: list[Slice]


class _List(msgspec.Struct, array_like=True):
    counts: list[int]
    """Points per key of the pack."""
    steps: Slice
    times: Slice
    offsets: Slice
    values: Slice


class _Head(msgspec.Struct, array_like=True):
    keys: list[str]
    grids: list[_Grid]
    loose: _List | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Head)


def build_segments(frames: Iterable[Frame]) -> list[NewSegment]:
    """Packs of all points of the frames, in the order of their keys. All of them count as come at offset 0."""
    return build_located((frame, np.zeros(frame.rows, np.int64)) for frame in frames)


def build_located(frames: Iterable[LocatedFrame]) -> list[NewSegment]:
    """Packs of all points of the frames, in the order of their keys, with the offsets that they came at."""
    merged = join_frames_with(frames)
    keys = sorted({key for frame, _ in merged for key in frame.keys})
    groups = [keys[at : at + MOST_KEYS] for at in range(0, len(keys), MOST_KEYS)]
    place = {key: n for n, key in enumerate(keys)}
    loose = _Loose()
    parts: list[list[_Part]] = [[] for _ in groups]
    for frame, offsets in merged:
        if len(frame.values) < LEAST_GRID and _context_of(frame) == _NO_CONTEXT:
            loose.add(frame, np.concatenate(offsets), place)
            continue
        for n, part in _parts(frame, np.concatenate(offsets), place):
            parts[n].append(part)
    del merged, place
    return [_pack(group, own, lost) for group, own, lost in zip(groups, parts, loose.split(len(groups)), strict=True)]


class _Loose:
    """Points of frames that are too small for a grid: of a run with ever new keys all are, so none has an object of its own."""

    def __init__(self) -> None:
        self._places, self._steps, self._times, self._offsets = (array("q") for _ in range(4))
        self._values = array("d")

    def add(self, frame: Frame, offsets: Any, place: dict[str, int]) -> None:
        """All points of a frame, key by key."""
        width = len(frame.keys)
        for n, key in enumerate(frame.keys):
            self._places.extend([place[key]] * frame.rows)
            self._steps.extend(frame.steps)
            self._times.extend(frame.times)
            self._offsets.extend(offsets.tolist())
            self._values.extend(frame.values[n::width])

    def split(self, groups: int) -> Iterator["_Points"]:
        """Those of each group of keys."""
        places = np.frombuffer(self._places, np.int64)
        order = np.argsort(places, kind="stable")
        steps, times, offsets = (
            np.frombuffer(column, np.int64)[order] for column in (self._steps, self._times, self._offsets)
        )
        values = np.frombuffer(self._values, np.float64)[order]
        places = places[order]
        ends = np.searchsorted(places, np.arange(1, groups + 1) * MOST_KEYS).tolist()
        for n, (start, end) in enumerate(pairwise((0, *ends))):
            piece = slice(start, end)
            keys = places[piece] - n * MOST_KEYS
            yield _Points(keys, steps[piece], times[piece], offsets[piece], values[piece])


class _Points(NamedTuple):
    """Points of one pack: places of keys in it, and what is said of each."""

    keys: Any
    steps: Any
    times: Any
    offsets: Any
    values: Any


@dataclass(frozen=True, slots=True)
class _Part:
    """What a frame holds for one pack: `values[k, r]` of key `keys[k]` (an index, ascending) at row r."""

    keys: Any
    steps: Any
    times: Any
    offsets: Any
    values: Any
    context: Context


def _context_of(frame: Frame) -> Context:
    return (frame.model_id, frame.dataset_name, frame.dataset_digest)


def _parts(frame: Frame, offsets: Any, place: dict[str, int]) -> Iterator[tuple[int, _Part]]:
    steps, times = np.frombuffer(frame.steps, np.int64), np.frombuffer(frame.times, np.int64)
    table: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
    places = np.array([place[key] for key in frame.keys], np.int64)
    order = np.argsort(places, kind="stable")
    homes = places // MOST_KEYS
    bounds = np.flatnonzero(np.diff(homes[order])) + 1
    for columns in np.split(order, bounds):
        home = int(homes[columns[0]])
        values = np.ascontiguousarray(table[:, columns].T)
        yield home, _Part(places[columns] - home * MOST_KEYS, steps, times, offsets, values, _context_of(frame))


def _pack(keys: list[str], parts: Sequence[_Part], lost: _Points) -> NewSegment:
    body = _Body()
    grids: list[_Grid] = []
    loose: list[_Part] = []
    for part in parts:
        if part.values.size < LEAST_GRID and part.context == _NO_CONTEXT:
            loose.append(part)
        else:
            grids.append(_grid(part, len(keys), body))
    listed = _listed(loose, lost, len(keys), body) if loose or len(lost.keys) else None
    head = _Head(keys, grids, listed)
    front = bytes(cramjam.zstd.compress(_encoder.encode(head), level=_LEVEL))
    return NewSegment(
        keys[0],
        keys[-1],
        sum(part.values.size for part in parts) + len(lost.values),
        len(front),
        b"".join((front, *body.parts)),
    )


class _Body:
    """What follows the head; slices count from there."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> Slice:
        at = (self._size, len(data))
        self.parts.append(data)
        self._size += len(data)
        return at


def _grid(part: _Part, width: int, body: _Body) -> _Grid:
    rows = len(part.steps)
    per_chunk = max(1, CHUNK_BYTES // (8 * rows))
    return _Grid(
        rows,
        None if len(part.keys) == width else part.keys.tolist(),
        part.context,
        body.add(_whole(part.steps)),
        body.add(_whole(part.times)),
        body.add(_whole(part.offsets)),
        per_chunk,
        [body.add(_planes(part.values[at : at + per_chunk])) for at in range(0, len(part.keys), per_chunk)],
    )


def _listed(parts: Sequence[_Part], lost: _Points, width: int, body: _Body) -> _List:
    keys = np.concatenate([lost.keys, *(np.repeat(part.keys, len(part.steps)) for part in parts)])
    order = np.argsort(keys, kind="stable")
    steps = np.concatenate([lost.steps, *(np.tile(part.steps, len(part.keys)) for part in parts)])[order]
    times = np.concatenate([lost.times, *(np.tile(part.times, len(part.keys)) for part in parts)])[order]
    offsets = np.concatenate([lost.offsets, *(np.tile(part.offsets, len(part.keys)) for part in parts)])[order]
    values = np.concatenate([lost.values, *(part.values.ravel() for part in parts)])[order]
    return _List(
        np.bincount(keys, minlength=width).tolist(),
        body.add(_whole(steps)),
        body.add(_whole(times)),
        body.add(_whole(offsets)),
        body.add(_planes(values)),
    )


def _whole(numbers: Any) -> bytes:
    # Wraps around at 64 bits, and so does the sum that undoes it.
    return _planes(np.diff(numbers, prepend=np.int64(0)))


def _planes(numbers: Any) -> bytes:
    shuffled = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8).T
    return bytes(cramjam.zstd.compress(shuffled.tobytes(), level=_LEVEL))


def _unplaned(data: bytes, kind: Any) -> Any:
    shuffled = np.frombuffer(bytes(cramjam.zstd.decompress(data)), np.uint8).reshape(8, -1)
    return np.ascontiguousarray(shuffled.T).view(kind).ravel()


def _whole_unplaned(data: bytes) -> Any:
    """The same for whole numbers, of which all but the first are mostly small: planes of zeros are not added."""
    planes = np.frombuffer(bytes(cramjam.zstd.decompress(data)), np.uint8).reshape(8, -1)
    out = planes[0].astype(np.int64)
    for n in range(1, 8):
        # Where the rest is zeros, the first number alone.
        reach = slice(None) if planes[n, 1:].any() else slice(1)
        out[reach] |= planes[n, reach].astype(np.int64) << (8 * n)
    return out


def read_segment(head: int, data: bytes) -> Iterable[Frame]:
    """All points of a segment, merged or not (then its head is 0)."""
    return CompactedSegment.of(head, data).frames() if head else decode_level0(data)


def read_located(head: int, data: bytes) -> Iterable[LocatedFrame]:
    """The same, with the offset of the log that each row came at."""
    return CompactedSegment.of(head, data).dated() if head else decode_located(data)


class CompactedSegment:
    """A pack whose head was read; `fetch(start, size)` gives bytes of its data."""

    def __init__(self, head: int, fetch: Callable[[int, int], bytes]) -> None:
        self._fetch, self._at = fetch, head
        self._wholes: dict[Slice, Any] = {}
        self._head: _Head = _decoder.decode(bytes(cramjam.zstd.decompress(fetch(0, head))))

    @classmethod
    def of(cls, head: int, data: bytes) -> "CompactedSegment":
        """From data that is there as a whole."""
        return cls(head, lambda start, size: data[start : start + size])

    @property
    def keys(self) -> Sequence[str]:
        """Its keys, in order."""
        return self._head.keys

    def pieces(self, key: str, *, dated: bool = False) -> Iterator[Slice]:
        """Which bytes of the data (start, size) `column` will fetch; `dated`: if it is asked for what came below an offset."""
        index = _find(self._head.keys, key)
        if index < 0:
            return
        wanted: list[Slice] = []
        for grid in self._head.grids:
            place = index if grid.keys is None else _find(grid.keys, index)
            if place >= 0:
                wanted += (grid.steps, grid.times, grid.chunks[place // grid.per_chunk])
                wanted += (grid.offsets,) if dated else ()
        loose = self._head.loose
        if loose is not None and loose.counts[index]:
            wanted += (loose.steps, loose.times, loose.values)
            wanted += (loose.offsets,) if dated else ()
        for start, size in wanted:
            yield self._at + start, size

    def column(self, key: str, below: int | None = None) -> Iterator[Columns]:
        """Steps (int64), times (int64, ms) and values (float64) of one key, in pieces: all, or of what came below an offset."""
        index = _find(self._head.keys, key)
        if index < 0:
            return
        for grid in self._head.grids:
            place = index if grid.keys is None else _find(grid.keys, index)
            if place >= 0:
                chunk, column = divmod(place, grid.per_chunk)
                values = self._numbers(grid.chunks[chunk], np.float64).reshape(-1, grid.rows)[column]
                kept = slice(None) if below is None else self._whole(grid.offsets) < below
                yield self._whole(grid.steps)[kept], self._whole(grid.times)[kept], values[kept]
        loose = self._head.loose
        if loose is not None and loose.counts[index]:
            start = sum(loose.counts[:index])
            piece = slice(start, start + loose.counts[index])
            kept = slice(None) if below is None else self._whole(loose.offsets)[piece] < below
            yield (
                self._whole(loose.steps)[piece][kept],
                self._whole(loose.times)[piece][kept],
                self._numbers(loose.values, np.float64)[piece][kept],
            )

    def frames(self) -> Iterator[Frame]:
        """All points, as frames."""
        for frame, _ in self._pieces():
            yield frame

    def dated(self) -> Iterator[LocatedFrame]:
        """All points, as frames, and the offset that each row came at."""
        for frame, (offsets, piece) in self._pieces():
            yield frame, self._whole(offsets)[piece]

    def _pieces(self) -> Iterator[tuple[Frame, tuple[Slice, slice]]]:
        keys = self._head.keys
        for grid in self._head.grids:
            table = np.concatenate([self._numbers(chunk, np.float64) for chunk in grid.chunks]).reshape(-1, grid.rows)
            names = keys if grid.keys is None else [keys[i] for i in grid.keys]
            frame = _frame(names, self._whole(grid.steps), self._whole(grid.times), table.T, grid.context)
            yield frame, (grid.offsets, slice(None))
        loose = self._head.loose
        if loose is not None:
            steps, times = self._whole(loose.steps), self._whole(loose.times)
            values = self._numbers(loose.values, np.float64)
            at = 0
            for key, count in zip(keys, loose.counts, strict=True):
                if count:
                    piece = slice(at, at + count)
                    yield _frame([key], steps[piece], times[piece], values[piece], _NO_CONTEXT), (loose.offsets, piece)
                    at += count

    def _numbers(self, piece: Slice, kind: Any) -> Any:
        start, size = piece
        return _unplaned(self._fetch(self._at + start, size), kind)

    def _whole(self, piece: Slice) -> Any:
        # Of a grid, all keys share them.
        found = self._wholes.get(piece)
        if found is None:
            start, size = piece
            found = self._wholes[piece] = _whole_unplaned(self._fetch(self._at + start, size)).cumsum()
            found.flags.writeable = False
        return found


def _find(ordered: Sequence[Any], wanted: Any) -> int:
    at = bisect_left(ordered, wanted)
    return at if at < len(ordered) and ordered[at] == wanted else -1


def _frame(keys: Sequence[str], steps: Any, times: Any, values: Any, context: Context) -> Frame:
    return Frame(
        tuple(keys),
        array("q", steps.tobytes()),
        array("q", times.tobytes()),
        array("d", np.ascontiguousarray(values).tobytes()),
        *context,
    )
