"""A hash of a projection's canonical state, read as a stream: equal wherever the same log was folded up to the same vector.

It says the same as `canonical_rows`, which is slower and shows the rows. Tables go through Postgres's binary COPY, whose bytes depend
on the values alone; points and summaries through arrays, a run's (attempt, rank) at a time. What only explains is left out: texts of records
set aside come from libraries.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from runfold_projections.metrics.summaries import Block
from runfold_projections.postgres.connection import Connection, sql
from runfold_projections.segments.distinct_points import distinct
from runfold_projections.segments.packs import Columns, read_segment

from .canonical_rows import Row
from .generations import Projection, canonical_names

WHOLE = 24 * 3600.0
"""Seconds that reading a table may take: it is bounded by its size alone."""
EXPLAINS = {"set_aside": frozenset({"message"})}
"""Columns that are no state."""
REALS = {"model_metric": frozenset({"value", "least", "most"})}
"""Columns of floating-point numbers, of which one NaN is as good as another."""
_SEGMENTS_AT_ONCE = 16
_BLOCKS_AT_ONCE = 200
_FORM = re.compile(r"\s*SELECT (?P<columns>.+) FROM (?P<table>\w+) ORDER BY (?P<key>.+?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Listing:
    """The canonical rows of a table: its columns by name, and which of them are the key that they are ordered by."""

    table: str
    names: tuple[str, ...]
    key: tuple[str, ...]
    query: str


@lru_cache(maxsize=64)
def listing(table: str) -> Listing:
    """What `sql/canonical` says of a table, without what only explains."""
    found = _FORM.fullmatch(sql(f"canonical/{table}.sql"))
    assert found is not None, f"the form of canonical/{table}.sql"
    left_out = EXPLAINS.get(table, frozenset())
    columns = [text.strip() for text in found["columns"].split(",")]
    columns = [text for text in columns if _name(text) not in left_out]
    names = [_name(text) for text in columns]
    key = tuple(_name(text) for text in found["key"].split(","))
    for name in key:
        if name not in names:
            columns.append(name)
            names.append(name)
    reals = REALS.get(table, frozenset())
    columns = [f"CASE WHEN {text} = 'NaN' THEN 'NaN' ELSE {text} END" if text in reals else text for text in columns]
    query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {found['key']}"  # noqa: S608 - a file of this package
    return Listing(table, tuple(names), key, query)


def _name(expression: str) -> str:
    return re.split(r"::|\s", expression.strip())[0]


@dataclass(frozen=True, slots=True)
class Group:
    """A part of what is packed: its place in the order of all, a digest, and its rows as they are shown."""

    name: tuple[Any, ...]
    digest: bytes
    rows: Callable[[], Iterable[Row]] = field(compare=False)


PACKED: dict[str, tuple[str, tuple[str, ...]]] = {
    "segment": (
        "point",
        (
            "run_id",
            "attempt",
            "rank",
            "key",
            "step",
            "time_ms",
            "value",
            "model_id",
            "dataset_name",
            "dataset_digest",
            "branch",
        ),
    ),
    "metric_block": (
        "metric",
        (
            "run_id",
            "key",
            "value",
            "step",
            "time_ms",
            "min_value",
            "max_value",
            "model_id",
            "dataset_name",
            "dataset_digest",
        ),
    ),
}
"""What rows of packed tables are called, and their columns."""


async def state_hash(connection: Connection, projection: Projection) -> str:
    """SHA-256 of the state, in hexadecimal. The connection sees the generation's schema, in a snapshot."""
    digest = hashlib.sha256()
    for table in canonical_names(projection):
        digest.update(f"{table}\n".encode())
        digest.update(await table_digest(connection, table))
    return digest.hexdigest()


async def table_digest(connection: Connection, table: str) -> bytes:
    """SHA-256 of one table's part of the state."""
    digest = hashlib.sha256()
    if table in PACKED:
        async for group in groups(connection, table):
            digest.update(repr(group.name).encode())
            digest.update(group.digest)
        return digest.digest()

    async def take(data: bytes) -> None:
        digest.update(data)

    await connection.copy_from_query(listing(table).query, output=take, format="binary", timeout=WHOLE)
    return digest.digest()


def groups(connection: Connection, table: str) -> AsyncIterator[Group]:
    """The parts of a packed table, in order. The connection is in a transaction."""
    return _point_groups(connection) if table == "segment" else _summary_groups(connection)


async def _point_groups(connection: Connection) -> AsyncIterator[Group]:
    name: tuple[str, str, int] | None = None
    parts: list[_Series] = []
    async for run_id, attempt, rank, branch, is_cut, head, data in connection.cursor(
        """
        SELECT run_id, attempt, rank, branch, EXISTS (SELECT FROM cut c WHERE c.run_id = s.run_id), head, data
        FROM segment s ORDER BY run_id, attempt, rank
        """,
        prefetch=_SEGMENTS_AT_ONCE,
        timeout=WHOLE,
    ):
        if name != (run_id, attempt, rank):
            if name is not None:
                yield _point_group(name, parts)
            name, parts = (run_id, attempt, rank), []
        # Where nothing was cut off, a point counts once, whichever branches it was logged on.
        parts += _series(read_segment(head, data), branch if is_cut else None)
    if name is not None:
        yield _point_group(name, parts)


_Series = tuple[tuple[Any, ...], Columns]


def _series(frames: Iterable[Any], branch: int | None) -> list[_Series]:
    found: list[_Series] = []
    suffix = () if branch is None else (branch,)
    for frame in frames:
        if not frame.rows or not frame.keys:
            continue
        context = (frame.model_id or "", frame.dataset_name or "", frame.dataset_digest or "")
        steps, times = np.frombuffer(frame.steps, np.int64), np.frombuffer(frame.times, np.int64)
        values: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys)).T.copy()
        # One NaN is as good as another: which bits it has, nobody sees.
        values[np.isnan(values)] = np.nan
        found += [((key, *context, *suffix), (steps, times, row)) for key, row in zip(frame.keys, values, strict=True)]
    return found


def _point_group(name: tuple[str, str, int], parts: Sequence[_Series]) -> Group:
    pieces: dict[tuple[Any, ...], list[Columns]] = {}
    for key, columns in parts:
        pieces.setdefault(key, []).append(columns)
    series = [(key, distinct(found)) for key, found in sorted(pieces.items())]
    digest = hashlib.sha256()
    for key, columns in series:
        digest.update(repr((*key, len(columns[0]))).encode())
        for column in columns:
            digest.update(np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    return Group(name, digest.digest(), lambda: _point_rows(name, series))


def _point_rows(name: tuple[str, str, int], series: Sequence[_Series]) -> Iterable[Row]:
    for (key, *context), (steps, times, values) in series:
        for step, time, value in zip(steps.tolist(), times.tolist(), values.tolist(), strict=True):
            yield (*name, key, step, time, value.hex(), *context)


async def _summary_groups(connection: Connection) -> AsyncIterator[Group]:
    of: str | None = None
    blocks: list[Block] = []
    async for run_id, keys, numbers, contexts in connection.cursor(
        "SELECT run_id, keys, numbers, contexts FROM metric_block ORDER BY run_id, block",
        prefetch=_BLOCKS_AT_ONCE,
        timeout=WHOLE,
    ):
        if of != run_id:
            if of is not None:
                yield _summary_group(of, blocks)
            of, blocks = run_id, []
        blocks.append(Block(tuple(keys), numbers, contexts))
    if of is not None:
        yield _summary_group(of, blocks)


def _summary_group(run_id: str, blocks: Sequence[Block]) -> Group:
    # The order of keys tells in which order they came, which is no state.
    names = [key for block in blocks for key in block.keys]
    order = sorted(range(len(names)), key=names.__getitem__)
    digest = hashlib.sha256(repr([names[at] for at in order]).encode())
    for column in zip(*(block.columns() for block in blocks), strict=True):
        joined = np.concatenate(column)[order]
        if joined.dtype.kind == "f":
            joined[np.isnan(joined)] = np.nan
        digest.update(joined.astype(joined.dtype.newbyteorder("<"), copy=False).tobytes())
    contexts = sorted((block.keys[place], tuple(context)) for block in blocks for place, context in block.placed())
    digest.update(repr(contexts).encode())
    return Group((run_id,), digest.digest(), lambda: _summary_rows(run_id, blocks))


def _summary_rows(run_id: str, blocks: Sequence[Block]) -> Iterable[Row]:
    for key, summary in sorted(
        ((key, summary) for block in blocks for key, summary in block.summaries()), key=lambda pair: pair[0]
    ):
        latest = summary.latest
        extremes = (None if bound is None else repr(bound) for bound in (summary.least, summary.most))
        context = (latest.model_id, latest.dataset_name, latest.dataset_digest)
        yield (run_id, key, repr(latest.value), latest.step, latest.time_ms, *extremes, *context)
