"""Points of many series at once, out of segments: of a large pack only the bytes of the keys asked for are fetched."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..database import Connection
from ..fresh import read_key
from ..packs import Columns, Pack
from ..search.tokens import storable

WHOLE_BYTES = 64 * 1024
"""Segments up to this size are fetched whole: a second round trip costs more."""
Series = tuple[str, str]
"""Run id and key."""


class _Segment(NamedTuple):
    run_id: str
    first_offset: int
    attempt: str
    rank: int
    first_key: str
    last_key: str
    head: int
    whole: bool
    data: bytes


_SEGMENTS = """
SELECT s.run_id, s.first_offset, s.attempt, s.rank, s.first_key, s.last_key, s.head,
       s.head = 0 OR octet_length(s.data) <= $3 AS whole,
       CASE WHEN s.head = 0 OR octet_length(s.data) <= $3 THEN s.data ELSE substr(s.data, 1, s.head) END AS data
FROM segment s
WHERE s.run_id = ANY ($1::text[])
  AND EXISTS (SELECT FROM unnest($2::text[]) AS wanted (key) WHERE s.first_key <= wanted.key AND s.last_key >= wanted.key)
  AND EXISTS (SELECT FROM run r WHERE r.run_id = s.run_id)
ORDER BY s.run_id, s.first_offset, s.attempt, s.rank, s.first_key
"""
_SLICES = """
SELECT wanted.segment, wanted.start, substr(s.data, wanted.start + 1, wanted.size) AS data
FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[], $8::text[])
    AS wanted (segment, start, size, run_id, first_offset, attempt, rank, first_key)
JOIN segment s ON s.run_id = wanted.run_id AND s.first_offset = wanted.first_offset AND s.attempt = wanted.attempt
    AND s.rank = wanted.rank AND s.first_key = wanted.first_key
"""


async def read_series(
    conn: Connection, run_ids: Sequence[str], keys: Sequence[str]
) -> dict[Series, list[tuple[int, Columns]]]:
    """Pieces of every series of these runs and keys that has points, each with its rank, in the order of the log.

    Nothing of unknown runs. A point may stand in several pieces. Must run in a snapshot: it takes two statements.
    """
    runs = list(dict.fromkeys(filter(storable, run_ids)))
    wanted = sorted(set(filter(storable, keys)))
    segments = [_Segment(*row) for row in await conn.fetch(_SEGMENTS, runs, wanted, WHOLE_BYTES)]
    fetched = await _slices(conn, segments, wanted)
    return await asyncio.to_thread(_read, segments, wanted, fetched)


async def _slices(conn: Connection, segments: Sequence[_Segment], keys: Sequence[str]) -> dict[tuple[int, int], bytes]:
    rows = [
        (n, start, size, s.run_id, s.first_offset, s.attempt, s.rank, s.first_key)
        for n, s in enumerate(segments)
        if not s.whole
        for start, size in _needed(s, keys)
    ]
    if not rows:
        return {}
    found = await conn.fetch(_SLICES, *zip(*rows, strict=True))
    return {(row["segment"], row["start"]): row["data"] for row in found}


def _needed(segment: _Segment, keys: Sequence[str]) -> set[tuple[int, int]]:
    pack = Pack.of(segment.head, segment.data)
    return {piece for key in _within(segment, keys) for piece in pack.pieces(key)}


def _within(segment: _Segment, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if segment.first_key <= key <= segment.last_key]


def _read(
    segments: Sequence[_Segment], keys: Sequence[str], fetched: Mapping[tuple[int, int], bytes]
) -> dict[Series, list[tuple[int, Columns]]]:
    found: dict[Series, list[tuple[int, Columns]]] = {}
    for n, segment in enumerate(segments):
        own = _within(segment, keys)
        pack = Pack(segment.head, _fetcher(n, segment, fetched)) if segment.head else None
        for key in own:
            pieces: list[Any] = list(pack.column(key)) if pack is not None else [read_key(segment.data, key)]
            some = [(segment.rank, piece) for piece in pieces if len(piece[0])]
            if some:
                found.setdefault((segment.run_id, key), []).extend(some)
    return found


def _fetcher(n: int, segment: _Segment, fetched: Mapping[tuple[int, int], bytes]) -> Callable[[int, int], bytes]:
    if segment.whole:
        return lambda start, size: segment.data[start : start + size]
    # The head came with the segment; all else was asked for by exactly these starts.
    return lambda start, size: segment.data if start == 0 else fetched[n, start]
