"""Searches runs in columns. Finds exactly what the SQL of `run_sql` finds, in the same order."""

from dataclasses import dataclass, replace
from typing import Any

from runfold_projections.search.tree import Clause, Key, Order

from .filtering import Verdicts, column_of, matching
from .ordering import ordered, sort_keys
from .run_sql import SearchScope
from .table import RunTable


@dataclass(frozen=True, slots=True)
class RunSearch:
    """The clauses and the order of a search."""

    scope: SearchScope
    clauses: tuple[Clause, ...]
    orders: tuple[Order, ...]

    def where_deleted(self, deleted: frozenset[int]) -> "RunSearch":
        """Return the search with its deleted experiments set."""
        return replace(self, scope=replace(self.scope, deleted=deleted))

    def columns(self) -> list[Key]:
        """Return the columns that the search needs."""
        keys = [clause.key for clause in self.clauses] + [order.key for order in self.orders]
        return list(dict.fromkeys(column for key in keys if (column := column_of(key)) is not None))


def find_rows(table: RunTable, search: RunSearch, known: Verdicts, most: int | None = None) -> Any:
    """Return the rows of the matching runs in order: the first `most`, or all."""
    rows = matching(table, search.scope, search.clauses, known)
    return ordered(rows, sort_keys(table, search.orders), most)
