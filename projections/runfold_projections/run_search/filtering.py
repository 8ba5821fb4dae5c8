"""Finds the matching runs of a table with one pass over a column per clause, in time linear in their number."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.search.like import like
from runfold_projections.search.tree import Among, Clause, Compare, Key, KeyKind, Operator, Presence

from .columns import DatasetColumn, NumberColumn, TextColumn
from .dictionary import TextDictionary
from .run_sql import START_TIME, SearchScope
from .table import RunTable

RUN_ID = Key(KeyKind.ATTRIBUTE, "run_id")
DATASETS = Key(KeyKind.DATASET, "")
"""The column of all fields of datasets."""

Verdicts = Mapping[Clause, Any]
"""By clause, whether each distinct value of its column matches in Postgres: bool arrays."""

_COMPARE: dict[Operator, Any] = {
    Operator.EQUAL: np.equal,
    Operator.UNEQUAL: np.not_equal,
    Operator.LESS: np.less,
    Operator.AT_MOST: np.less_equal,
    Operator.MORE: np.greater,
    Operator.AT_LEAST: np.greater_equal,
}


def column_of(key: Key) -> Key | None:
    """Return the column that a key needs; None for those that every table has."""
    if key in (START_TIME, RUN_ID):
        return None
    return DATASETS if key.kind is KeyKind.DATASET else key


def matching(table: RunTable, scope: SearchScope, clauses: Sequence[Clause], known: Verdicts) -> Any:
    """Return the rows of the matching runs, ascending: int64 of shape (matches,)."""
    mask = _stage(table, scope)
    for clause in clauses:
        mask &= _holds(table, clause, known)
    return np.flatnonzero(mask)


def texts_of(table: RunTable, key: Key) -> TextColumn | None:
    """Return the texts that a clause on this key tests; None for numbers and run ids."""
    column = table.columns.get(column_of(key) or key)
    if isinstance(column, DatasetColumn):
        return column.fields[key.name]
    return column if isinstance(column, TextColumn) else None


def _stage(table: RunTable, scope: SearchScope) -> Any:
    if scope.view is ViewType.ALL:
        return np.ones(len(table), bool)
    gone = table.deleted
    if scope.deleted:
        gone = gone | np.isin(table.experiment_ids, list(scope.deleted))
    return gone.copy() if scope.view is ViewType.DELETED_ONLY else ~gone


def _holds(table: RunTable, clause: Clause, known: Verdicts) -> Any:
    if clause.key == START_TIME:
        return _number_holds(NumberColumn(table.start_ms, np.True_), clause)
    if clause.key == RUN_ID:
        return _run_id_holds(table, clause)
    column = table.columns[column_of(clause.key) or clause.key]
    if isinstance(column, NumberColumn):
        return _number_holds(column, clause)
    if isinstance(column, TextColumn):
        return _text_holds(column, clause, known)
    rows = column.rows[_text_holds(column.fields[clause.key.name], clause, known)]
    mask = np.zeros(len(table), bool)
    mask[rows] = True
    return mask


def _number_holds(column: NumberColumn, clause: Clause) -> Any:
    # As in MLflow, NaN is unequal to every number, and matches nothing else.
    assert isinstance(clause, Compare), clause
    return _COMPARE[clause.operator](column.values, clause.value) & column.present


def _text_holds(column: TextColumn, clause: Clause, known: Verdicts) -> Any:
    match clause:
        case Presence(_, present):
            return (column.codes >= 0) if present else (column.codes < 0)
        case Among(_, values, negated):
            codes = [code for value in values if (code := column.code(str(value))) is not None]
            among = np.isin(column.codes, codes)
            return (column.codes >= 0) & ~among if negated else among
        case Compare(_, Operator.EQUAL, value):
            code = column.code(str(value))
            return column.codes == code if code is not None else np.zeros(len(column.codes), bool)
        case Compare(_, Operator.UNEQUAL, value):
            code = column.code(str(value))
            there = column.codes >= 0
            return there if code is None else there & (column.codes != code)
    return column.having(known[clause] if clause in known else _like(column.values, clause))


def _run_id_holds(table: RunTable, clause: Clause) -> Any:
    match clause:
        case Among(_, values, negated):
            return _is_one_of(table.run_ids, [str(value) for value in values]) ^ negated
        case Compare(_, Operator.EQUAL, value):
            return _is_one_of(table.run_ids, [str(value)])
        case Compare(_, Operator.UNEQUAL, value):
            return ~_is_one_of(table.run_ids, [str(value)])
    assert isinstance(clause, Compare), clause
    test = like(str(clause.value), ignore_case=clause.operator is Operator.ILIKE)
    return np.fromiter(map(test, table.ids(slice(None))), bool, len(table))


def _is_one_of(run_ids: Any, values: Sequence[str]) -> Any:
    # Ids are padded with zero bytes, which none contains. Longer values can't be in the table.
    width = run_ids.dtype.itemsize
    encoded = [encoded for value in values if len(encoded := value.encode()) <= width]
    mask = np.zeros(len(run_ids), bool)
    if not encoded or not len(run_ids):
        return mask
    sought = np.unique(np.array(encoded, run_ids.dtype))
    # Comparing eight bytes as one number is much faster than comparing texts, and leaves few candidates.
    heads = np.unique(_head(sought))
    mine = _head(run_ids)
    rows = np.flatnonzero(heads[np.minimum(np.searchsorted(heads, mine), len(heads) - 1)] == mine)
    mask[rows] = np.isin(run_ids[rows], sought)
    return mask


def _head(run_ids: Any) -> Any:
    # The width of the table's ids is a multiple of eight bytes.
    return run_ids.view(np.uint64).reshape(len(run_ids), -1)[:, 0]


def _like(values: TextDictionary, clause: Clause) -> Any:
    assert isinstance(clause, Compare), clause
    return values.like(str(clause.value), ignore_case=clause.operator is Operator.ILIKE)


def texts_for_postgres(table: RunTable, clause: Clause) -> TextDictionary | None:
    """Return the distinct values that Postgres must match, since ILIKE beyond ASCII depends on its locale; else None.

    Run ids are ASCII.
    """
    if not isinstance(clause, Compare) or clause.operator is not Operator.ILIKE:
        return None
    texts = texts_of(table, clause.key)
    if texts is None or (texts.values.blob.isascii() and str(clause.value).isascii()):
        return None
    return texts.values
