"""The language of searches of logged models: MLflow's words for what is wrong, and no text of a caller in the SQL."""

import pytest

from runfold_projections.core.errors import BadFilter
from runfold_projections.logged_models.queries import with_versions
from runfold_projections.logged_models.search_sql import ModelSearch, page_of_models
from runfold_projections.logged_models.search_vocabulary import (
    LOGGED_MODELS,
    MeasuredOn,
    ModelOrder,
)
from runfold_projections.search.operands import check_order_count
from runfold_projections.search.tree import Among, Compare, Key, KeyKind, Operator, Order

MARK = "ẑẑẑ"
NAME = Key(KeyKind.ATTRIBUTE, "name")


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("name = 'a'", Compare(NAME, Operator.EQUAL, "a")),
        ('attributes.name != "a\'b"', Compare(NAME, Operator.UNEQUAL, "a'b")),
        ("name like 'a%'", Compare(NAME, Operator.LIKE, "a%")),
        ("name NOT IN ('a', 'b')", Among(NAME, ("a", "b"), True)),
        ("name IN ('a')", Among(NAME, ("a",), False)),
        ("params.lr = 0.01", Compare(Key(KeyKind.PARAM, "lr"), Operator.EQUAL, "0.01")),
        ("params.lr = word", Compare(Key(KeyKind.PARAM, "lr"), Operator.EQUAL, "word")),
        ("tags.`a b` ILIKE 'X'", Compare(Key(KeyKind.TAG, "a b"), Operator.ILIKE, "X")),
        ("metrics.loss <= 1e-3", Compare(Key(KeyKind.METRIC, "loss"), Operator.AT_MOST, 1e-3)),
        ("creation_time > 5", Compare(Key(KeyKind.ATTRIBUTE, "creation_timestamp_ms"), Operator.MORE, 5)),
        ("last_updated_timestamp = 5", Compare(Key(KeyKind.ATTRIBUTE, "last_updated_timestamp_ms"), Operator.EQUAL, 5)),
    ],
)
def test_a_comparison_means_what_it_means_in_mlflow(text: str, clause: object) -> None:
    assert LOGGED_MODELS.filter(text) == (clause,)
    assert LOGGED_MODELS.filter(f"{text} AND name = 'z'") == (clause, Compare(NAME, Operator.EQUAL, "z"))


def test_no_filter_is_no_clause() -> None:
    assert LOGGED_MODELS.filter("") == ()


# As mlflow.utils.search_logged_model_utils 3.17.2 has them.
COMPARISONS = "Expected a list of comparisons separated by 'AND' (e.g. 'metrics.loss > 0.1 AND params.lr = 0.01')."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'a' OR name = 'b'", f"Invalid filter string: \"name = 'a' OR name = 'b'\". {COMPARISONS}"),
        ("name", f"Invalid filter string: 'name'. {COMPARISONS}"),
        ("name IS NULL", f"Invalid filter string: 'name IS NULL'. {COMPARISONS}"),
        ("run.name = 'a'", "Invalid entity type: 'run'. Expected one of ['attributes', 'metrics', 'params', 'tags']."),
        (
            "name > 'a'",
            "Invalid comparison operator for attributes.name: '>'. "
            "Expected one of ('=', '!=', 'LIKE', 'ILIKE', 'IN', 'NOT IN').",
        ),
        (
            "metrics.loss LIKE 'a'",
            "Invalid comparison operator for metrics.loss: 'LIKE'. Expected one of ('<', '<=', '>', '>=', '=', '!=').",
        ),
    ],
)
def test_what_mlflow_refuses_is_refused_in_its_words(text: str, message: str) -> None:
    with pytest.raises(BadFilter) as refused:
        LOGGED_MODELS.filter(text)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metrics.loss > 'a'", "Expected a number to compare metrics.loss with"),
        ("creation_time > 'a'", "Expected a number"),
        ("nothing = 'a'", "Invalid attribute key 'nothing'"),
        ("name = ('a')", "A list can only stand after IN"),
        ("name IN ()", "The list after IN is empty"),
        ("name LIKE 'a\\'", "must not end with a single backslash"),
        (" AND ".join(["name = 'a'"] * 101), "A filter may have 100 clauses"),
    ],
)
def test_what_breaks_mlflows_server_is_refused_with_reasons(text: str, says: str) -> None:
    with pytest.raises(BadFilter, match=says):
        LOGGED_MODELS.filter(text)


def test_orders_are_by_attributes_and_metrics_alone() -> None:
    created = ModelOrder(Order(Key(KeyKind.ATTRIBUTE, "creation_timestamp_ms"), False))
    assert LOGGED_MODELS.order("creation_time", False) == LOGGED_MODELS.order("creation_timestamp", False) == created
    assert LOGGED_MODELS.order("metrics.a.b", True, "iris", "") == ModelOrder(
        Order(Key(KeyKind.METRIC, "a.b"), True), "iris", None
    )
    for field, message in (
        ("params.lr", "Invalid order by field name: params.lr. Only metrics are supported."),
        ("nothing", "Invalid order by field name: nothing"),
    ):
        with pytest.raises(BadFilter) as refused:
            LOGGED_MODELS.order(field, True)
        assert str(refused.value) == message
    with pytest.raises(BadFilter, match="An order may have 20 criteria"):
        check_order_count([None] * 21)


def test_no_text_of_a_caller_is_sql() -> None:
    clauses = LOGGED_MODELS.filter(
        f"name = '{MARK}' AND status IN ('{MARK}') AND tags.`{MARK}` LIKE '{MARK}' AND params.{MARK} = '{MARK}' "
        f"AND metrics.{MARK} > 1 AND metrics.{MARK} = 1 AND metrics.{MARK} != 1 AND metrics.{MARK} < 1"
    )
    orders = [LOGGED_MODELS.order(f"metrics.{MARK}", True, MARK, MARK), LOGGED_MODELS.order("name", False)]
    for own in (clauses, ()):
        search = ModelSearch(MARK, [1], own, [MeasuredOn(MARK), MeasuredOn(MARK, MARK)], orders)
        statement = page_of_models(search, 10, 0)
        assert MARK not in statement.text
        assert all(f"${number}:" in statement.text for number in range(1, len(statement.values) + 1))


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        (None, '[{"name": "a", "version": 1}, {"name": "b", "version": 2}]'),
        # As MLflow's client leaves it, after its server wrote the same before.
        (
            '[{"name": "a", "version": 1}, {"name": "a", "version": "1"}]',
            '[{"name": "a", "version": 1}, {"name": "b", "version": 2}]',
        ),
        (
            '[{"name": "old", "version": "7"}]',
            '[{"name": "old", "version": "7"}, {"name": "a", "version": 1}, {"name": "b", "version": 2}]',
        ),
        ("mine", "mine"),
        ("7", "7"),
        ('{"name": "a"}', '{"name": "a"}'),
        ("[1]", "[1]"),
    ],
)
def test_versions_of_a_model_are_each_once_in_their_tag(tag: str | None, shown: str) -> None:
    assert with_versions(tag, [("a", "1"), ("b", "2")]) == shown
