"""Compacted segments: points key after key, so that one key's points are read without the others'.

A compacted segment holds the points of at most `MOST_KEYS` neighbouring keys of one (run, attempt, rank). Rows with
the same keys form a grid: steps and times once, then the values key by key, in chunks of whole columns. Points for
which a grid does not pay are in one list, ordered by key. The data begin with a head, which locates everything else.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cramjam
import msgspec
import numpy as np
from numpy.typing import NDArray

from runfold_schemas.events.frames import Frame

from .byte_planes import decode_floats, decode_integers
from .distinct_points import Columns
from .frame_groups import LocatedFrame
from .level0 import decode_level0, decode_located

Context = tuple[str | None, str | None, str | None]
"""A metric's model id, dataset name and dataset digest."""
NO_CONTEXT: Context = (None, None, None)
Slice = tuple[int, int]
"""Start and size in bytes, counted from the end of the head."""


class Grid(msgspec.Struct, array_like=True):
    """Where a grid's columns are. Each chunk holds the values of `per_chunk` keys, the last one of fewer."""

    rows: int
    keys: list[int] | None
    """Indexes of its keys, ascending; None: all of the segment's."""
    context: Context
    steps: Slice
    times: Slice
    offsets: Slice
    """Log offsets of the rows."""
    per_chunk: int
    chunks: list[Slice]


class PointList(msgspec.Struct, array_like=True):
    """Where the points outside of grids are, ordered by key."""

    counts: list[int]
    """Points per key of the segment."""
    steps: Slice
    times: Slice
    offsets: Slice
    values: Slice


class SegmentHead(msgspec.Struct, array_like=True):
    """The table of contents: keys in order, grids, and the rest."""

    keys: list[str]
    grids: list[Grid]
    rest: PointList | None


_decoder = msgspec.msgpack.Decoder(SegmentHead)


def read_segment(head: int, data: bytes) -> Iterable[Frame]:
    """Read all points of a segment of any level. `head` is 0 at level 0."""
    return CompactedSegment.from_data(head, data).frames() if head else decode_level0(data)


def read_located(head: int, data: bytes) -> Iterable[LocatedFrame]:
    """Read as `read_segment`, with the log offset of each row."""
    return CompactedSegment.from_data(head, data).located() if head else decode_located(data)


class CompactedSegment:
    """Reads a compacted segment.

    `fetch(start, size)` returns bytes of its data, the first `head` of which are its head.
    """

    def __init__(self, head: int, fetch: Callable[[int, int], bytes]) -> None:
        self._fetch, self._start = fetch, head
        self._integers: dict[Slice, NDArray[np.int64]] = {}
        """Decoded once: all keys of a grid share them."""
        self._head: SegmentHead = _decoder.decode(bytes(cramjam.zstd.decompress(fetch(0, head))))

    @classmethod
    def from_data(cls, head: int, data: bytes) -> "CompactedSegment":
        """Read from data in memory."""
        return cls(head, lambda start, size: data[start : start + size])

    @property
    def keys(self) -> Sequence[str]:
        """The keys, in order."""
        return self._head.keys

    def slices(self, key: str, *, located: bool = False) -> Iterator[Slice]:
        """List the bytes (start, size) that `column` fetches; `located`: if it is called with an end offset."""
        index = _find(self._head.keys, key)
        if index < 0:
            return
        needed: list[Slice] = []
        for grid in self._head.grids:
            position = index if grid.keys is None else _find(grid.keys, index)
            if position >= 0:
                needed += (grid.steps, grid.times, grid.chunks[position // grid.per_chunk])
                needed += (grid.offsets,) if located else ()
        rest = self._head.rest
        if rest is not None and rest.counts[index]:
            needed += (rest.steps, rest.times, rest.values)
            needed += (rest.offsets,) if located else ()
        for start, size in needed:
            yield self._start + start, size

    def column(self, key: str, end_offset: int | None = None) -> Iterator[Columns]:
        """Read the points of one key, in pieces: all, or those logged before an offset."""
        index = _find(self._head.keys, key)
        if index < 0:
            return
        for grid in self._head.grids:
            position = index if grid.keys is None else _find(grid.keys, index)
            if position >= 0:
                chunk, column = divmod(position, grid.per_chunk)
                values = self._read_floats(grid.chunks[chunk]).reshape(-1, grid.rows)[column]
                kept = slice(None) if end_offset is None else self._read_integers(grid.offsets) < end_offset
                yield self._read_integers(grid.steps)[kept], self._read_integers(grid.times)[kept], values[kept]
        rest = self._head.rest
        if rest is not None and rest.counts[index]:
            start = sum(rest.counts[:index])
            piece = slice(start, start + rest.counts[index])
            kept = slice(None) if end_offset is None else self._read_integers(rest.offsets)[piece] < end_offset
            yield (
                self._read_integers(rest.steps)[piece][kept],
                self._read_integers(rest.times)[piece][kept],
                self._read_floats(rest.values)[piece][kept],
            )

    def frames(self) -> Iterator[Frame]:
        """Read all points, as frames."""
        for frame, _ in self._frames():
            yield frame

    def located(self) -> Iterator[LocatedFrame]:
        """Read all points, as frames, with the log offset of each row."""
        for frame, (offsets, piece) in self._frames():
            yield frame, self._read_integers(offsets)[piece]

    def _frames(self) -> Iterator[tuple[Frame, tuple[Slice, slice]]]:
        keys = self._head.keys
        for grid in self._head.grids:
            table = np.concatenate([self._read_floats(chunk) for chunk in grid.chunks]).reshape(-1, grid.rows)
            names = keys if grid.keys is None else [keys[i] for i in grid.keys]
            steps, times = self._read_integers(grid.steps), self._read_integers(grid.times)
            yield _frame(names, steps, times, table.T, grid.context), (grid.offsets, slice(None))
        rest = self._head.rest
        if rest is not None:
            steps, times = self._read_integers(rest.steps), self._read_integers(rest.times)
            values = self._read_floats(rest.values)
            start = 0
            for key, count in zip(keys, rest.counts, strict=True):
                if count:
                    piece = slice(start, start + count)
                    yield _frame([key], steps[piece], times[piece], values[piece], NO_CONTEXT), (rest.offsets, piece)
                    start += count

    def _read_floats(self, piece: Slice) -> NDArray[np.float64]:
        start, size = piece
        return decode_floats(self._fetch(self._start + start, size))

    def _read_integers(self, piece: Slice) -> NDArray[np.int64]:
        found = self._integers.get(piece)
        if found is None:
            start, size = piece
            found = self._integers[piece] = decode_integers(self._fetch(self._start + start, size))
            found.flags.writeable = False
        return found


def _find(ordered: Sequence[Any], item: Any) -> int:
    """Return the index of an item in a sorted sequence; -1 if it is absent."""
    index = bisect_left(ordered, item)
    return index if index < len(ordered) and ordered[index] == item else -1


def _frame(
    keys: Sequence[str],
    steps: NDArray[np.int64],
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    context: Context,
) -> Frame:
    return Frame(
        tuple(keys),
        array("q", steps.tobytes()),
        array("q", times.tobytes()),
        array("d", np.ascontiguousarray(values).tobytes()),
        *context,
    )
