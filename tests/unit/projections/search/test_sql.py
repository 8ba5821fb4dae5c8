"""No text of a caller is ever SQL."""

from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.experiments.search_sql import page_of_experiments
from runfold_projections.run_search.run_sql import SearchScope, page_of_run_ids
from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.search.tree import Among, Clause, Compare, Key, KeyKind, Operator, Order, Presence
from runfold_projections.search.vocabulary import EXPERIMENTS, RUNS

MARK = "ẑẑẑ"
marked = st.text(max_size=5).map(lambda text: MARK + text)
free_keys = st.builds(Key, st.sampled_from([KeyKind.METRIC, KeyKind.PARAM, KeyKind.TAG]), marked)
text_clauses = st.one_of(
    st.builds(
        Compare,
        free_keys.filter(lambda key: key.kind is not KeyKind.METRIC),
        st.sampled_from([Operator.EQUAL, Operator.ILIKE]),
        marked,
    ),
    st.builds(Presence, free_keys.filter(lambda key: key.kind is not KeyKind.METRIC), st.booleans()),
    st.builds(Compare, st.just(Key(KeyKind.ATTRIBUTE, "run_name")), st.just(Operator.LIKE), marked),
    st.builds(Compare, st.just(Key(KeyKind.DATASET, "context")), st.just(Operator.UNEQUAL), marked),
    st.builds(Among, st.just(Key(KeyKind.DATASET, "name")), st.tuples(marked, marked), st.booleans()),
)


@given(
    st.sampled_from([[1], [1, 2], [2]]),
    st.lists(text_clauses, max_size=4),
    st.lists(st.builds(Order, free_keys, st.booleans()), max_size=3),
    st.sampled_from(ViewType),
)
def test_keys_and_values_of_a_run_search_are_parameters(
    experiment_ids: list[int], clauses: list[Clause], orders: list[Order], view: ViewType
) -> None:
    statement = page_of_run_ids(SearchScope(experiment_ids, frozenset({2}), view), clauses, orders, 10, 0)
    assert MARK not in statement.text
    assert all(f"${number}:" in statement.text for number in range(1, len(statement.values) + 1))


def test_values_of_an_experiment_search_are_parameters() -> None:
    clauses = EXPERIMENTS.filter(f"name = '{MARK}' AND tags.`{MARK}` LIKE '{MARK}' AND tags.{MARK} IS NULL")
    statement = page_of_experiments(MARK, clauses, ViewType.ALL, EXPERIMENTS.order(["name"]), 1, 0)
    assert MARK not in statement.text
    assert statement.values.count(MARK) == 5


def test_aliases_of_a_key_are_one_key() -> None:
    clauses = RUNS.filter("created > 1 AND Created > 1 AND attr.start_time > 1 AND run.`start_time` > 1")
    assert len(set(clauses)) == 1
