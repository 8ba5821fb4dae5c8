"""Messages are part of the contract: clients' tests match them.

Those marked as seen were on the wire of MLflow 3.17.
"""

import pytest

from runfold_projections.core.errors import BadFilter
from runfold_projections.search.grammar import MAX_CLAUSES
from runfold_projections.search.vocabulary import EXPERIMENTS, RUNS

SEEN_ON_THE_WIRE = {
    "metrics.x = foo": "Expected numeric value type for metric. Found foo",
    "params.x > 1": "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 1",
    "a = 1 OR b = 2": "Invalid clause(s) in filter string: 'OR'",
}
AS_MLFLOW_WRITES_THEM = {
    "foo.x = 'a'": "Invalid entity type 'foo'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']",
    "datasets.x = 'a'": "Invalid dataset key 'x' specified. Valid keys are '{'context', 'digest', 'name'}'",
    "1 = metrics.a": "Invalid comparison clause. Expected 'Identifier' found '1'",
    "metrics.a": "Invalid clause(s) in filter string: 'metrics.a'",
    "params.x = 'a' 'b'": "Invalid clause(s) in filter string: ''b''",
    "metrics.a = 1;": "Invalid clause(s) in filter string: ';'",
    "metrics.a BETWEEN 1 AND 2": "Invalid clause(s) in filter string: 'metrics.a', 'BETWEEN', '1', '2'",
    "start_time > 'x'": "Expected numeric value type for numeric attribute: start_time. Found 'x'",
    "status = 1": "Expected a quoted string value for attributes. Got value 1",
    "datasets.name = 1": "Expected a quoted string value for dataset attributes. Got value 1",
    "params.x = `a`": "Parameter value is either not quoted or unidentified quote types used for string value `a`. "
    "Use either single or double quotes.",
    "status IN ('a')": "Only ['run_id'] attributes support comparison with a list of quoted string values.",
    "run_id IN ()": "While parsing a list in the query, expected a non-empty list of string values, but got empty list",
    "start_time IS NULL": (
        "IS NULL / IS NOT NULL is only supported for tags and params, not for 'attribute' 'start_time'"
    ),
    "params.x == 'a'": "Invalid comparator '==' not one of '{'!=', '=', 'ILIKE', 'LIKE'}'",
}


@pytest.mark.parametrize(("text", "message"), list((SEEN_ON_THE_WIRE | AS_MLFLOW_WRITES_THEM).items()))
def test_a_bad_filter_is_answered_in_mlflows_words(text: str, message: str) -> None:
    with pytest.raises(BadFilter) as caught:
        RUNS.filter(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metrics.a = 1", "Invalid entity type 'metrics'. Valid entity types are ('attribute', 'tag', 'tags')"),
        ("name IN ('a')", "Only ['experiment_id'] attributes support comparison with a list of quoted string values."),
        ("creation_time > 1.5", "Invalid value for numeric attribute 'creation_time': '1.5'"),
        ("experiment_id = 'x'", "Invalid experiment ID 'x'. Experiment ID must be a valid integer."),
    ],
)
def test_experiments_have_words_of_their_own(text: str, message: str) -> None:
    with pytest.raises(BadFilter) as caught:
        EXPERIMENTS.filter(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        (["metrics.x foo"], "Invalid ordering key in order_by clause 'metrics.x foo'."),
        (["metrics.x, metrics.y"], "Invalid order_by clause 'metrics.x, metrics.y'. Could not be parsed."),
        ([""], "Invalid order_by clause ''. Could not be parsed."),
        (["datasets.name"], "Invalid identifier type 'dataset'"),
        (["created", "start_time DESC"], "`order_by` contains duplicate fields: ['created', 'start_time DESC']"),
    ],
)
def test_a_bad_order_is_answered_in_mlflows_words(orders: list[str], message: str) -> None:
    with pytest.raises(BadFilter) as caught:
        RUNS.order(orders)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        " AND ".join(["metrics.a = 1"] * (MAX_CLAUSES + 1)),
        "params.x = '" + "a" * 300_000 + "'",
        "params.x = 'a\0b'",
        "params.x = '\ud800'",
        "params.x LIKE 'a\\'",
        "run_id = ('a')",
    ],
)
def test_what_postgres_could_not_take_is_refused_before(text: str) -> None:
    with pytest.raises(BadFilter):
        RUNS.filter(text)


def test_numbers_too_large_for_a_bigint_are_compared_as_floats() -> None:
    (clause,) = RUNS.filter("start_time < " + "9" * 5000)
    assert clause.value == float("inf")  # type: ignore[union-attr]
    (clause,) = RUNS.filter("start_time < 9223372036854775808")
    assert isinstance(clause.value, float)  # type: ignore[union-attr]
    (clause,) = RUNS.filter("start_time < 9223372036854775807")
    assert clause.value == 2**63 - 1  # type: ignore[union-attr]


def test_clauses_beside_each_other_are_a_conjunction() -> None:
    assert RUNS.filter("metrics.a = 1 metrics.b = 2") == RUNS.filter("metrics.a = 1 AND metrics.b = 2")


def test_an_order_has_a_bound() -> None:
    with pytest.raises(BadFilter, match="20 criteria"):
        RUNS.order([f"metrics.m{number}" for number in range(21)])
