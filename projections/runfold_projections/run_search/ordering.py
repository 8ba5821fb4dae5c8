"""Orders runs by columns. The order is stable, so ties stay in the table's order: latest start first, then by id.

Runs without a value come last in both directions, and NaN just before them, as in MLflow's store.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runfold_projections.search.tree import Order

from .columns import NumberColumn, TextColumn
from .filtering import RUN_ID
from .run_sql import START_TIME
from .table import RunTable

_LAST = np.int32(2**31 - 1)
SortKey = Callable[[Any], Any]
"""Returns, for rows, the numbers by which they ascend."""


def sort_keys(table: RunTable, orders: Sequence[Order]) -> list[SortKey]:
    """Return the keys of these criteria, most significant first."""
    return [key for order in orders for key in _criterion(table, order)]


def ordered(rows: Any, keys: Sequence[SortKey], most: int | None = None) -> Any:
    """Order rows. With `most`, return the first ones, with a pass over the rows instead of a sort of all."""
    if most is None or most >= len(rows):
        return _sorted(rows, keys)
    if not keys or not most:
        return rows[:most]
    values = keys[0](rows)
    last = _at_place(values, most)
    first = _sorted(rows[values < last], keys)
    return np.concatenate((first, ordered(rows[values == last], keys[1:], most - len(first))))


def _sorted(rows: Any, keys: Sequence[SortKey]) -> Any:
    if not keys or len(rows) < 2:
        return rows
    columns = [key(rows) for key in keys]
    columns = [column for column in columns if column.min() != column.max()]
    if not columns:
        return rows
    return rows[np.lexsort(columns[::-1]) if len(columns) > 1 else np.argsort(columns[0], kind="stable")]


def _at_place(values: Any, place: int) -> Any:
    """Return the value at this place (from 1) of the sorted values."""
    if values.dtype == np.int8:
        return np.searchsorted(np.cumsum(np.bincount(values)), place)
    return np.partition(values, place - 1)[place - 1]


def _criterion(table: RunTable, order: Order) -> list[SortKey]:
    ascending = order.ascending
    if order.key == START_TIME:
        return [lambda rows: _directed(table.start_ms[rows], ascending)]
    if order.key == RUN_ID:
        return [lambda rows: _directed(np.unique(table.run_ids[rows], return_inverse=True)[1], ascending)]
    column = table.columns[order.key]
    if isinstance(column, TextColumn):
        codes = column.codes
        return [lambda rows: np.where(codes[rows] < 0, _LAST, _directed(codes[rows], ascending))]
    assert isinstance(column, NumberColumn), order
    return [
        lambda rows: _group(column.values[rows], column.present[rows]),
        lambda rows: _directed(_comparable(column.values[rows], column.present[rows]), ascending),
    ]


def _group(values: Any, present: Any) -> Any:
    """Return 0 for numbers, 1 for NaN, 2 for no value, as int8."""
    return np.where(present, np.isnan(values), 2).astype(np.int8)


def _comparable(values: Any, present: Any) -> Any:
    return np.where(present & ~np.isnan(values), values, values.dtype.type(0))


def _directed(values: Any, ascending: bool) -> Any:
    if ascending:
        return values
    # The complement of an integer descends as it ascends, and has no overflow.
    return -values if values.dtype.kind == "f" else ~values
