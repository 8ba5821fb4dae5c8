"""Finds the runs of a search: in columns in memory, updated to its read transaction, or by SQL where that is faster."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.sql import check_page
from runfold_projections.search.tree import Among, Clause, Compare, Key, KeyKind, Operator
from runfold_projections.series.fork_summaries import forked_in, latest_of_forked

from .change_feed import ChangeFeed
from .column_search import RunSearch, find_rows
from .filtering import RUN_ID, Verdicts, texts_for_postgres
from .run_columns import ilike, load_column, load_table, refresh_table, with_inherited
from .run_sql import page_of_run_ids
from .table import RunTable

_SMALL_RUNS = 20_000
"""Runs up to which a search takes less time than starting a thread for it."""
_LEAST_RELOAD = 2_000
"""Changed runs up to which a table is refreshed instead of reloaded."""
_ORDERS_KEPT = 4
"""Searches per table whose full result is kept for the next page."""
_MOST_SKIPPED = 5_000
"""Runs that SQL may skip on its way to a page in the default order."""


class SnapshotTooOld(Exception):
    """The columns are already newer than the search's snapshot. Retry with a newer one."""


class ColumnsLoading(Exception):
    """Another search is loading columns of these experiments, maybe for seconds: await `free`, without a connection."""


@dataclass(frozen=True, slots=True)
class _View:
    """A table as of an epoch, and the results of recent searches in it, for their next pages."""

    table: RunTable
    epoch: int
    found: OrderedDict[RunSearch, Any]

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + sum(int(rows.nbytes) for rows in self.found.values())


@dataclass(slots=True)
class _Held:
    """The columns of one set of experiments. `is_too_large`: its table alone exceeds the memory limit.

    The lock is held while the view is updated; `is_loading` is set if this takes long.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    view: _View | None = None
    is_loading: bool = False
    is_too_large: bool = False
    refused: set[Key] = field(default_factory=set)
    """Columns that exceed the memory limit."""


class RunFinder:
    """Searches runs in cached columns of at most `most_bytes`; the least recently used experiments are evicted first.

    Used within one event loop. Every result is that of the given connection's snapshot.
    """

    def __init__(self, feed: ChangeFeed, most_bytes: int) -> None:
        self._feed = feed
        self._most = most_bytes
        self._held: OrderedDict[tuple[int, ...], _Held] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Approximate size of all cached columns."""
        return sum(held.view.nbytes for held in self._held.values() if held.view is not None)

    async def run_ids(
        self, connection: Connection, epoch: int | None, search: RunSearch, limit: int, offset: int
    ) -> list[str]:
        """Return the ids of a page of runs, as the SQL of `page_of_run_ids` finds them.

        `epoch` is the snapshot's, None if it has none. SnapshotTooOld if the columns are newer than the snapshot,
        ColumnsLoading if they are being loaded. BadQuery for a limit or offset out of range.
        """
        check_page(limit, offset)
        if not search.scope.experiments or not limit:
            return []
        experiments = tuple(sorted(search.scope.experiments))
        if epoch is None or not self._by_columns(experiments, search, offset + limit):
            return await run_ids_by_sql(connection, search, limit, offset)
        held = self._held.setdefault(experiments, _Held())
        self._held.move_to_end(experiments)
        if held.is_loading:
            raise ColumnsLoading
        async with held.lock:
            try:
                view = await self._current(connection, epoch, held, search)
            finally:
                held.is_loading = False
        if view is None:
            return await run_ids_by_sql(connection, search, limit, offset)
        rows = view.found.get(search)
        if rows is None:
            known = await _verdicts(connection, view.table, search.clauses)
            rows = await _computed(view.table, search, known, None if offset else limit)
            if offset:
                view.found[search] = rows
                while len(view.found) > _ORDERS_KEPT:
                    view.found.popitem(last=False)
        return view.table.ids(rows[offset : offset + limit])

    async def free(self, search: RunSearch) -> None:
        """Wait until no search loads columns of these experiments."""
        held = self._held.get(tuple(sorted(search.scope.experiments)))
        while held is not None and held.is_loading:
            async with held.lock:
                pass

    def _by_columns(self, experiments: tuple[int, ...], search: RunSearch, deepest: int) -> bool:
        held = self._held.get(experiments)
        if held is not None and (held.is_too_large or not held.refused.isdisjoint(search.columns())):
            return False
        # The primary key finds runs by id faster than a pass over all of them.
        if any(_names_runs(clause) for clause in search.clauses):
            return False
        # An index delivers a first page in the default order: loading a table does not pay.
        is_plain = not search.clauses and not search.orders and deepest <= _MOST_SKIPPED and len(experiments) == 1
        return not is_plain or (held is not None and held.view is not None)

    async def _current(self, connection: Connection, epoch: int, held: _Held, search: RunSearch) -> _View | None:
        """Return the view of this epoch with the columns that the search needs; None if it is too large."""
        experiments = sorted(search.scope.experiments)
        view = held.view
        if view is not None and view.epoch > epoch:
            raise SnapshotTooOld
        table = view.table if view is not None else None
        held.is_loading = table is None or not table.columns.keys() >= set(search.columns())
        if view is not None and table is not None and view.epoch < epoch:
            table = await self._refreshed(connection, view, epoch, experiments)
        if table is None:
            held.is_loading = True
            table = await load_table(connection, experiments)
        found = view.found if view is not None and view.table is table else OrderedDict()
        held.view = _View(table, epoch, found)
        try:
            for key in [key for key in search.columns() if key not in table.columns]:
                column = await load_column(connection, experiments, key, len(table), self._most)
                if column is None:
                    held.refused.add(key)
                    return None
                if key.kind is KeyKind.METRIC:
                    column = await with_inherited(connection, experiments, table, key, column)
                table = table.with_columns({key: column})
                # Kept one by one: if a caller gives up on a search of many columns, those loaded so far stay.
                held.view = _View(table, epoch, OrderedDict())
        finally:
            self._evict(held, search)
        return held.view

    async def _refreshed(
        self, connection: Connection, view: _View, epoch: int, experiments: Sequence[int]
    ) -> RunTable | None:
        """Return the view's table as of the epoch; None if reloading is cheaper."""
        changed = self._feed.between(view.epoch, epoch)
        if changed is None or len(changed) > max(_LEAST_RELOAD, len(view.table) // 8):
            return None
        return await refresh_table(connection, experiments, view.table, list(changed)) if changed else view.table

    def _evict(self, wanted: _Held, search: RunSearch) -> None:
        for experiments, held in list(self._held.items()):
            if self.nbytes <= self._most:
                return
            if held is not wanted:
                del self._held[experiments]
        if wanted.view is None or self.nbytes <= self._most:
            return
        view = _View(wanted.view.table.only(search.columns()), wanted.view.epoch, OrderedDict())
        wanted.is_too_large = view.nbytes > self._most
        wanted.view = None if wanted.is_too_large else view


async def run_ids_by_sql(connection: Connection, search: RunSearch, limit: int, offset: int) -> list[str]:
    """Return the ids of a page of runs by SQL alone."""
    keys = [key.name for key in search.columns() if key.kind is KeyKind.METRIC]
    inherited = (
        await latest_of_forked(connection, await forked_in(connection, search.scope.experiments), keys) if keys else {}
    )
    statement = page_of_run_ids(search.scope, search.clauses, search.orders, limit, offset, inherited)
    return [row[0] for row in await connection.fetch(statement.text, *statement.values)]


def _names_runs(clause: Clause) -> bool:
    if clause.key != RUN_ID:
        return False
    return (isinstance(clause, Among) and not clause.negated) or (
        isinstance(clause, Compare) and clause.operator is Operator.EQUAL
    )


async def _verdicts(connection: Connection, table: RunTable, clauses: Sequence[Clause]) -> Verdicts:
    known: dict[Clause, Any] = {}
    for clause in clauses:
        values = texts_for_postgres(table, clause)
        if values is not None and isinstance(clause, Compare):
            known[clause] = await ilike(connection, values.texts(), str(clause.value))
    return known


async def _computed(table: RunTable, search: RunSearch, known: Verdicts, most: int | None) -> Any:
    if len(table) > _SMALL_RUNS:
        return await asyncio.to_thread(find_rows, table, search, known, most)
    return find_rows(table, search, known, most)
