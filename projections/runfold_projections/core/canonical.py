"""Canonical rows of a table: what must be equal whenever the same log was folded, whatever the batches and workers."""

import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from runfold_projections.postgres.connection import Connection

Row = tuple[Any, ...]

_FORM = re.compile(r"\s*SELECT (?P<columns>.+) FROM (?P<table>\w+) ORDER BY (?P<key>.+?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Listing:
    """Rows that a query lists: `SELECT <columns> FROM <table> ORDER BY <key>`.

    `explanations` are columns that are no state, such as texts of libraries. `reals` are columns of floating-point
    numbers, where all NaNs count as equal.
    """

    query: str
    explanations: frozenset[str] = frozenset()
    reals: frozenset[str] = frozenset()

    @cached_property
    def _parts(self) -> tuple[str, list[str], list[str], str]:
        found = _FORM.fullmatch(self.query)
        assert found is not None, self.query
        columns = [text.strip() for text in found["columns"].split(",")]
        columns = [text for text in columns if _column_name(text) not in self.explanations]
        names = [_column_name(text) for text in columns]
        for name in (_column_name(text) for text in found["key"].split(",")):
            if name not in names:
                columns.append(name)
                names.append(name)
        return found["table"], columns, names, found["key"]

    @property
    def table(self) -> str:
        return self._parts[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `state_query`."""
        return tuple(self._parts[2])

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the columns that rows are ordered by, and identified by."""
        return tuple(_column_name(text) for text in self._parts[3].split(","))

    @cached_property
    def state_query(self) -> str:
        """The query without explanations, with the columns of the key, and with one NaN for all."""
        table, columns, _, key = self._parts
        texts = [
            f"CASE WHEN {text} = 'NaN' THEN 'NaN' ELSE {text} END" if text in self.reals else text for text in columns
        ]
        return f"SELECT {', '.join(texts)} FROM {table} ORDER BY {key}"  # noqa: S608 - written by the slices


def _column_name(expression: str) -> str:
    return re.split(r"::|\s", expression.strip())[0]


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the rows that are packed together: their place in the order of all groups, a digest, and the rows."""

    name: tuple[Any, ...]
    digest: bytes
    rows: Callable[[], Iterable[Row]] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows that a table holds packed in arrays. `shown_as` names them; `key` are the columns that tell them apart.

    `groups` yields them in order, a bounded part at a time; its connection is in a transaction. `rows` yields them one
    by one, slowly, by code that shares nothing with `groups`.
    """

    shown_as: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    groups: Callable[[Connection], AsyncIterator[Group]]
    rows: Callable[[Connection], AsyncIterator[Row]]
