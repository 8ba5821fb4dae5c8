"""Laws of the columns: brought up to date is made anew, the first few of an order are its beginning, LIKE is
Postgres's.
"""

import re
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.run_search.columns import DatasetColumn, NumberColumn, TextColumn
from runfold_projections.run_search.dictionary import TextDictionary
from runfold_projections.run_search.filtering import DATASETS, RUN_ID, matching
from runfold_projections.run_search.ordering import ordered, sort_keys
from runfold_projections.run_search.run_sql import START_TIME, SearchScope
from runfold_projections.run_search.table import RunRow, RunTable, id_width
from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.search.like import like
from runfold_projections.search.tree import Among, Key, KeyKind, Order

METRIC, PARAM = Key(KeyKind.METRIC, "m"), Key(KeyKind.PARAM, "p")
texts = st.text("ab%_\\Aü€😀", max_size=6)
numbers = st.sampled_from([0.0, -0.0, 1.0, -1.5, float("inf"), float("-inf"), float("nan")])
run_ids = st.text("ab0-_Z", min_size=1, max_size=20)
data = st.tuples(st.sampled_from("xy"), st.sampled_from("de"), st.none() | texts)


@st.composite
def runs(draw: st.DrawFn) -> tuple[RunRow, dict[Key, Any]]:
    run_id = draw(run_ids)
    # A run's start and experiment never change: they hang on its id here.
    row = RunRow(run_id, len(run_id) % 3, 1 + len(run_id) % 2, draw(st.booleans()))
    values = {
        METRIC: draw(st.none() | numbers),
        PARAM: draw(st.none() | texts),
        DATASETS: draw(st.lists(data, max_size=2)),
    }
    return row, values


Found = dict[str, tuple[RunRow, dict[Key, Any]]]


def fresh(found: Found) -> RunTable:
    """A table of these runs, made at once."""
    rows = sorted(found.values(), key=lambda run: (-run[0].start_ms, run[0].run_id.encode()))
    ids = [row.run_id.encode() for row, _ in rows]
    metrics = [values[METRIC] for _, values in rows]
    entries = [(at, entry) for at, (_, values) in enumerate(rows) for entry in values[DATASETS]]
    return RunTable(
        np.array(ids, f"S{id_width(ids)}"),
        np.array([row.start_ms for row, _ in rows], np.int64),
        np.array([row.experiment_id for row, _ in rows], np.int64),
        np.array([row.deleted for row, _ in rows], bool),
        {
            METRIC: NumberColumn(
                np.array([0.0 if value is None else value for value in metrics], np.float64),
                np.array([value is not None for value in metrics], bool),
            ),
            PARAM: TextColumn.of(None if (text := values[PARAM]) is None else text.encode() for _, values in rows),
            DATASETS: DatasetColumn.of([at for at, _ in entries], [entry for _, entry in entries]),
        },
    )


def shown(table: RunTable) -> list[Any]:
    """What the table says, run by run."""
    metric, param, datasets = (table.columns[key] for key in (METRIC, PARAM, DATASETS))
    assert isinstance(metric, NumberColumn)
    assert isinstance(param, TextColumn)
    assert isinstance(datasets, DatasetColumn)

    def text(column: TextColumn, at: int) -> str | None:
        return None if column.codes[at] < 0 else column.values.texts([column.codes[at]])[0]

    entries = [
        sorted(
            repr([text(datasets.fields[name], int(at)) for name in ("name", "digest", "context")])
            for at in np.flatnonzero(datasets.rows == row)
        )
        for row in range(len(table))
    ]
    values = [repr(float(v)) if p else None for v, p in zip(metric.values, metric.present, strict=True)]
    return [
        *zip(table.ids(slice(None)), table.start_ms.tolist(), table.experiment_ids.tolist(), strict=True),
        table.deleted.tolist(),
        values,
        [text(param, at) for at in range(len(table))],
        entries,
    ]


@given(st.lists(st.lists(runs(), max_size=8, unique_by=lambda run: run[0].run_id), max_size=5))
def test_a_table_brought_up_to_date_is_one_made_anew(batches: list[list[tuple[RunRow, dict[Key, Any]]]]) -> None:
    known: Found = {}
    table = fresh(known)
    for batch in batches:
        before = shown(table)
        old = table
        known |= {row.run_id: (row, values) for row, values in batch}
        table = table.refreshed(
            [row for row, _ in batch], {key: [values[key] for _, values in batch] for key in (METRIC, PARAM, DATASETS)}
        )
        assert shown(table) == shown(fresh(known))
        assert shown(old) == before, "a search that still works on the old table must not see the new one"
        codes = table.columns[PARAM]
        assert isinstance(codes, TextColumn)
        assert codes.values.texts() == sorted(codes.values.texts())


orders = st.lists(
    st.builds(Order, st.sampled_from([METRIC, PARAM, START_TIME, RUN_ID]), st.booleans()),
    max_size=3,
    unique_by=lambda order: order.key,
)


@given(st.lists(runs(), max_size=25, unique_by=lambda run: run[0].run_id), orders, st.integers(0, 30))
def test_the_first_few_of_an_order_are_its_beginning(
    found: list[tuple[RunRow, dict[Key, Any]]], by: list[Order], most: int
) -> None:
    table = fresh({row.run_id: (row, values) for row, values in found})
    rows, keys = np.arange(len(table)), sort_keys(table, by)
    assert ordered(rows, keys, most).tolist() == ordered(rows, keys).tolist()[:most]


@given(st.lists(runs(), max_size=12, unique_by=lambda run: run[0].run_id), st.lists(run_ids | texts, min_size=1))
def test_run_ids_are_found_whole(found: list[tuple[RunRow, dict[Key, Any]]], wanted: list[str]) -> None:
    table = fresh({row.run_id: (row, values) for row, values in found})
    scope = SearchScope((1, 2), frozenset(), ViewType.ALL)
    some = [found[0][0].run_id, *wanted] if found else wanted
    rows = matching(table, scope, [Among(RUN_ID, tuple(some), False)], {})
    assert set(table.ids(rows)) == {row.run_id for row, _ in found} & set(some)


patterns = st.text("ab%_\\Aü😀", max_size=7).filter(lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0)


def as_regex(pattern: str) -> str:
    found, characters = "", iter(pattern)
    for character in characters:
        if character == "\\":
            found += re.escape(next(characters))
        else:
            found += {"%": ".*", "_": "."}.get(character, re.escape(character))
    return found


@given(st.sets(texts, max_size=12), patterns)
def test_like_is_a_regular_expression_in_other_words(values: set[str], pattern: str) -> None:
    distinct = sorted(values)
    expected = [re.fullmatch(as_regex(pattern), value, re.DOTALL) is not None for value in distinct]
    assert [like(pattern)(value) for value in distinct] == expected
    assert TextDictionary.of([value.encode() for value in distinct]).like(pattern).tolist() == expected


@given(st.sets(st.text("abAB%_", max_size=6), max_size=12), st.text("abAB%_", max_size=7))
def test_ilike_is_the_same_without_case(values: set[str], pattern: str) -> None:
    distinct = sorted(values)
    expected = [re.fullmatch(as_regex(pattern), value, re.DOTALL | re.IGNORECASE) is not None for value in distinct]
    assert [like(pattern, ignore_case=True)(value) for value in distinct] == expected
    assert TextDictionary.of([v.encode() for v in distinct]).like(pattern, ignore_case=True).tolist() == expected


def test_no_pattern_makes_like_go_back() -> None:
    """Twenty pieces over a long text that has all but the last: backtracking would take longer than the test may."""
    pattern = "%" + "a_%" * 20 + "c"
    assert not like(pattern)("ab" * 50_000)
    assert not TextDictionary.of([b"a" * 100_000]).like("%" + "a%" * 20 + "b").any()


@given(st.sets(texts, max_size=10), st.sets(texts, max_size=10))
def test_a_dictionary_with_more_texts_keeps_the_old_ones(old: set[str], more: set[str]) -> None:
    before = sorted(text.encode() for text in old)
    known = TextDictionary.of(before)
    wider, moved = known.with_texts({text.encode() for text in more - old})
    assert wider.texts() == [text.decode() for text in sorted(text.encode() for text in old | more)]
    assert [wider[code] for code in moved] == before
    assert all(wider.code(text.encode()) is not None for text in more)
    assert known.code(b"nowhere") is None
