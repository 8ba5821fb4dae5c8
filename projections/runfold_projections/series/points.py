"""Points of many series at once, out of segments. Of a large segment, only the bytes of the given keys are fetched."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.segments.compacted import CompactedSegment
from runfold_projections.segments.distinct_points import Columns
from runfold_projections.segments.level0 import read_level0_key

from .visible_points import VisiblePart, VisibleRuns, read_visible_runs

WHOLE_BYTES = 64 * 1024
"""Segments up to this size are fetched whole: a second round trip costs more."""
PART_BYTES = 2 * 1024 * 1024
"""Bytes of segments that are unpacked together."""
SeriesKey = tuple[str, str]
"""Run id and key."""


class SeriesPiece(NamedTuple):
    """Points of a series by one attempt and rank (-1: the writer named none) on one branch, in stored order."""

    attempt: str
    rank: int
    branch: int
    columns: Columns


class _Segment(NamedTuple):
    run_id: str
    first_offset: int
    last_offset: int
    attempt: str
    rank: int
    branch: int
    first_step: int
    last_step: int
    first_key: str
    last_key: str
    head: int
    whole: bool
    data: bytes


_SEGMENTS = """
SELECT s.run_id, s.first_offset, s.last_offset, s.attempt, s.rank, s.branch, s.first_step, s.last_step,
       s.first_key, s.last_key, s.head, s.head = 0 OR octet_length(s.data) <= $3 AS whole,
       CASE WHEN s.head = 0 OR octet_length(s.data) <= $3 THEN s.data ELSE substr(s.data, 1, s.head) END AS data
FROM segment s
WHERE s.run_id = ANY ($1::text[])
  AND EXISTS (
    SELECT FROM unnest($2::text[]) AS wanted (key) WHERE s.first_key <= wanted.key AND s.last_key >= wanted.key
  )
ORDER BY s.run_id, s.first_offset, s.attempt, s.rank, s.first_key
"""
_SLICES = """
SELECT wanted.segment, wanted.start, substr(s.data, wanted.start + 1, wanted.size) AS data
FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[],
            $8::text[]) AS wanted (segment, start, size, run_id, first_offset, attempt, rank, first_key)
JOIN segment s ON s.run_id = wanted.run_id AND s.first_offset = wanted.first_offset AND s.attempt = wanted.attempt
    AND s.rank = wanted.rank AND s.first_key = wanted.first_key
"""


async def read_series(
    connection: Connection, run_ids: Sequence[str], keys: Sequence[str], lines: VisibleRuns | None = None
) -> dict[SeriesKey, list[SeriesPiece]]:
    """Pieces of every series of these runs and keys that has points, in the order of the log.

    `lines`, as `read_lines` has found them for these runs, say which points are shown, and as of when; without them,
    the effective ones are. Nothing of unknown runs. A point may stand in several pieces. Must run in a snapshot: it
    takes several statements.
    """
    lines = lines or await read_visible_runs(connection, run_ids)
    wanted = sorted(set(filter(storable, keys)))
    shown = _VisibleIn(lines)
    rows = await connection.fetch(_SEGMENTS, lines.owners, wanted, WHOLE_BYTES)
    segments = [segment for segment in (_Segment(*row) for row in rows) if shown.of(segment)]
    found: dict[SeriesKey, list[SeriesPiece]] = {}
    unpacking: list[asyncio.Future[dict[SeriesKey, list[SeriesPiece]]]] = []
    try:
        # While one part is unpacked, the next one's bytes come from Postgres.
        for part, needed in _parts(segments, wanted, shown):
            fetched = await _slices(connection, part, needed)
            unpacking.append(asyncio.ensure_future(asyncio.to_thread(_read, part, wanted, fetched, shown)))
        for unpacked in unpacking:
            for series, pieces in (await unpacked).items():
                found.setdefault(series, []).extend(pieces)
    finally:
        await asyncio.gather(*unpacking, return_exceptions=True)
    return found


def _parts(
    segments: Sequence[_Segment], keys: Sequence[str], shown: "_VisibleIn"
) -> Iterator[tuple[list[_Segment], list[set[tuple[int, int]]]]]:
    """Segments in some parts of about as many bytes, each with the slices that are to be fetched of it."""
    part: list[_Segment] = []
    slices: list[set[tuple[int, int]]] = []
    size = 0
    for segment in segments:
        needed = set() if segment.whole else _needed(segment, keys, dated=shown.end_offset(segment) is not None)
        part.append(segment)
        slices.append(needed)
        size += len(segment.data) + sum(length for _, length in needed)
        if size >= PART_BYTES:
            yield part, slices
            part, slices, size = [], [], 0
    if part:
        yield part, slices


class _VisibleIn:
    """Who shows the points of a segment, and up to which step."""

    def __init__(self, lines: VisibleRuns) -> None:
        self._below = {owner: lines.end_offset(owner) for owner in lines.owners}
        self._by_owner: dict[str, list[tuple[str, VisiblePart]]] = {}
        for run_id, parts in lines.parts.items():
            for part in parts:
                self._by_owner.setdefault(part.owner, []).append((run_id, part))

    def of(self, segment: _Segment) -> list[tuple[str, int | None]]:
        """Runs and last steps; None where that is beyond the segment's."""
        found: list[tuple[str, int | None]] = []
        below = self._below[segment.run_id]
        if below is not None and segment.first_offset >= below:
            return found
        for run_id, part in self._by_owner[segment.run_id]:
            if part.shows(segment.branch):
                limit = part.limit(segment.branch, segment.rank)
                if limit is None or limit >= segment.last_step:
                    found.append((run_id, None))
                elif limit >= segment.first_step:
                    found.append((run_id, limit))
        return found

    def end_offset(self, segment: _Segment) -> int | None:
        """The offset below which points of a segment count; None: all of them do."""
        below = self._below[segment.run_id]
        return None if below is None or segment.last_offset < below else below


async def _slices(
    connection: Connection, segments: Sequence[_Segment], needed: Sequence[set[tuple[int, int]]]
) -> dict[tuple[int, int], bytes]:
    rows = [
        (n, start, size, s.run_id, s.first_offset, s.attempt, s.rank, s.first_key)
        for n, (s, slices) in enumerate(zip(segments, needed, strict=True))
        for start, size in slices
    ]
    if not rows:
        return {}
    found = await connection.fetch(_SLICES, *zip(*rows, strict=True))
    return {(row["segment"], row["start"]): row["data"] for row in found}


def _needed(segment: _Segment, keys: Sequence[str], *, dated: bool) -> set[tuple[int, int]]:
    pack = CompactedSegment.from_data(segment.head, segment.data)
    return {piece for key in _within(segment, keys) for piece in pack.slices(key, located=dated)}


def _within(segment: _Segment, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if segment.first_key <= key <= segment.last_key]


def _read(
    segments: Sequence[_Segment], keys: Sequence[str], fetched: Mapping[tuple[int, int], bytes], shown: _VisibleIn
) -> dict[SeriesKey, list[SeriesPiece]]:
    found: dict[SeriesKey, list[SeriesPiece]] = {}
    for n, segment in enumerate(segments):
        pack = CompactedSegment(segment.head, _fetcher(n, segment, fetched)) if segment.head else None
        to, below = shown.of(segment), shown.end_offset(segment)
        for key in _within(segment, keys):
            pieces: list[Any] = (
                list(pack.column(key, below)) if pack is not None else [read_level0_key(segment.data, key, below)]
            )
            for run_id, limit in to:
                some = [
                    SeriesPiece(segment.attempt, segment.rank, segment.branch, columns)
                    for columns in (_until(piece, limit) for piece in pieces)
                    if len(columns[0])
                ]
                if some:
                    found.setdefault((run_id, key), []).extend(some)
    return found


def _until(piece: Columns, limit: int | None) -> Columns:
    if limit is None:
        return piece
    steps, times, values = piece
    kept = steps <= limit
    return steps[kept], times[kept], values[kept]


def _fetcher(n: int, segment: _Segment, fetched: Mapping[tuple[int, int], bytes]) -> Callable[[int, int], bytes]:
    if segment.whole:
        return lambda start, size: segment.data[start : start + size]
    # The head came with the segment; all else was asked for by exactly these starts.
    return lambda start, size: segment.data if start == 0 else fetched[n, start]
