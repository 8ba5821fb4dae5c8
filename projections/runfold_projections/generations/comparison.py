"""Compares two generations at the same vector, row by row. Memory is bounded by one run's points."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from runfold_projections.catalog import canonical_tables
from runfold_projections.core.canonical import Listing, Packed, Row
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import LONG_READ_SECONDS, Connection

from .state_hash import table_digest

_ROWS_AT_ONCE = 1000
OUTCOMES = frozenset({"rejection", "set_aside"})
"""Tables that say what became of events."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One value that differs, or with `column` None a row that only one side has: then the other side is None."""

    table: str
    key: Mapping[str, Any]
    column: str | None
    old: Any
    new: Any

    @property
    def alters_outcome(self) -> bool:
        """Whether an event was accepted on one side only, or rejected with another message."""
        return self.table in OUTCOMES

    def as_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {"table": self.table, "key": _plain(self.key), "column": self.column} | {
            "old": _plain(self.old),
            "new": _plain(self.new),
        }


async def differences(old: Connection, new: Connection, projection: Projection) -> AsyncIterator[RowDifference]:
    """Yield what differs, table by table in the order of keys.

    Both connections see a generation's schema, in read transactions of equal checkpoints.
    """
    for table, canonical in canonical_tables(projection):
        if isinstance(canonical, Packed):
            async for difference in _packed(old, new, canonical):
                yield difference
        else:
            ours, theirs = await asyncio.gather(table_digest(old, canonical), table_digest(new, canonical))
            if ours != theirs:
                async for difference in _listed(old, new, table, canonical):
                    yield difference


async def _listed(old: Connection, new: Connection, table: str, listing: Listing) -> AsyncIterator[RowDifference]:
    names, query = listing.columns, listing.state_query
    at = [names.index(name) for name in listing.key]

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[place] for place in at)

    async for left, right in _merged(_rows(old, query), _rows(new, query), key):
        for difference in _compared(table, names, listing.key, left, right):
            yield difference


async def _rows(connection: Connection, query: str) -> AsyncIterator[Row]:
    async for row in connection.cursor(query, prefetch=_ROWS_AT_ONCE, timeout=LONG_READ_SECONDS):
        yield tuple(row)


async def _packed(old: Connection, new: Connection, packed: Packed) -> AsyncIterator[RowDifference]:
    async for left, right in _merged(packed.groups(old), packed.groups(new), lambda group: group.name):
        if left is not None and right is not None and left.digest == right.digest:
            continue
        before, after = ([] if group is None else group.rows() for group in (left, right))
        for ours, theirs in _paired(before, after, len(packed.key)):
            for difference in _compared(packed.shown_as, packed.columns, packed.key, ours, theirs):
                yield difference


def _paired(old: Iterable[Row], new: Iterable[Row], key_columns: int) -> Iterable[tuple[Row | None, Row | None]]:
    """Yield rows that differ, paired by their first columns, which are their key."""
    ours, theirs = ({row[:key_columns]: row for row in rows} for rows in (old, new))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            yield ours.get(key), theirs.get(key)


def _compared(
    table: str, names: tuple[str, ...], key: tuple[str, ...], old: Row | None, new: Row | None
) -> Iterable[RowDifference]:
    there = dict(zip(names, old or new or (), strict=False))
    name = {column: there[column] for column in key if column in there}
    if old is None or new is None:
        rest = {column: value for column, value in there.items() if column not in key}
        yield RowDifference(table, name, None, None if old is None else rest, None if new is None else rest)
        return
    for column, before, after in zip(names, old, new, strict=False):
        if before != after:
            yield RowDifference(table, name, column, before, after)


async def _merged(
    left: AsyncIterator[T], right: AsyncIterator[T], key: Callable[[T], Any]
) -> AsyncIterator[tuple[T | None, T | None]]:
    """Two ordered streams side by side; None where one has nothing of the key."""
    ours, theirs = await anext(left, None), await anext(right, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and key(ours) < key(theirs)):
            yield ours, None
            ours = await anext(left, None)
        elif ours is None or key(theirs) < key(ours):
            yield None, theirs
            theirs = await anext(right, None)
        else:
            yield ours, theirs
            ours, theirs = await anext(left, None), await anext(right, None)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value.hex() if isinstance(value, bytes) else value
