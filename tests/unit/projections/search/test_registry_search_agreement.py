"""MLflow's own parsers of the registry's searches are the judges: what they and its store accept, ours accepts and
means the same.

Deliberate divergences, out of the generator's reach or named here:

* `IS NULL` is refused; MLflow's server answers 500. `name = ('a')` too.
* A list for `version_number` is refused at once; MLflow's store refuses it later.
* A name in backticks is an order with or without a direction; MLflow takes it with one only.
* An order by `creation_timestamp` of registered models is refused, as MLflow's server refuses it.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runfold_projections.core.errors import BadFilter
from runfold_projections.registry.search_vocabulary import MODEL_VERSIONS, REGISTERED_MODELS, RegistryVocabulary
from runfold_projections.search.tree import Among, Compare

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.exceptions import MlflowException
    from mlflow.store.entities.paged_list import PagedList  # noqa: F401  (imports what search_utils needs first)
    from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils, SearchUtils

models_judge: Any = SearchModelUtils
versions_judge: Any = SearchModelVersionUtils
orders_judge: Any = SearchUtils
Meaning = tuple[str, str, str, Any]
TEXTUAL = ("=", "!=", "LIKE", "ILIKE")
NUMERIC = ("=", "!=", "<", "<=", ">", ">=")

KEYS = ["name", "attribute.name", "`name`", "run_id", "source_path", "version_number", "attribute.version_number"]
KEYS += [
    "tags.x",
    "tag.x",
    'tags."a b"',
    "tags.`mlflow.prompt.is_prompt`",
    "tags.version_number",
    "foo",
    "params.x",
    "creation_timestamp",
]
COMPARATORS = ["=", "!=", "<", "<=", ">", ">=", "LIKE", "like", "ILIKE", "IN", "not in", "RLIKE", "=="]
VALUES = [
    "'a'",
    '"b c"',
    "''",
    "'%x_'",
    "'7'",
    "' 7 '",
    "'x7'",
    "7",
    "-7",
    "7.5",
    "0",
    "x",
    "('a', 'b')",
    "('a',)",
    "()",
    "(1)",
]


def filters() -> st.SearchStrategy[str]:
    clause = st.builds("{} {} {}".format, st.sampled_from(KEYS), st.sampled_from(COMPARATORS), st.sampled_from(VALUES))
    return st.lists(clause, min_size=1, max_size=3).map(" AND ".join)


def stored_models(clause: dict[str, Any]) -> Meaning:
    """What the store makes of a clause that the parser took."""
    kind, key, comparator, value = clause["type"], clause["key"], clause["comparator"], clause["value"]
    known = TEXTUAL if kind == "tag" else (*TEXTUAL, "IN", "NOT IN")
    if comparator not in known or isinstance(value, tuple) != (comparator in ("IN", "NOT IN")):
        raise ValueError(comparator)
    return kind, key, comparator, value


def stored_versions(clause: dict[str, Any]) -> Meaning:
    kind, key, comparator, value = clause["type"], clause["key"], clause["comparator"], clause["value"]
    if kind == "attribute" and key == "version_number":
        if comparator not in NUMERIC or isinstance(value, float):
            raise ValueError(comparator)
        return kind, key, comparator, int(value)
    if comparator in ("IN", "NOT IN") and key not in ("run_id", "name"):
        raise ValueError(comparator)
    return stored_models(clause)


def theirs(judge: Any, stored: Callable[[dict[str, Any]], Meaning], text: str) -> list[Meaning] | None:
    try:
        return [stored(clause) for clause in judge.parse_search_filter(text)]
    except (MlflowException, ValueError, TypeError):
        return None


def ours(vocabulary: RegistryVocabulary, text: str) -> list[Meaning] | None:
    found: list[Meaning] = []
    try:
        for clause in vocabulary.filter(text):
            kind, key = clause.key.kind.value, clause.key.name
            if isinstance(clause, Among):
                found.append((kind, key, "NOT IN" if clause.negated else "IN", clause.values))
            else:
                assert isinstance(clause, Compare)
                found.append((kind, key, clause.operator.value, clause.value))
    except BadFilter:
        return None
    return found


@settings(max_examples=600, deadline=None)
@given(filters())
def test_filters_of_registered_models_mean_what_they_mean_in_mlflow(text: str) -> None:
    assert ours(REGISTERED_MODELS, text) == theirs(models_judge, stored_models, text), text


@settings(max_examples=600, deadline=None)
@given(filters())
def test_filters_of_versions_mean_what_they_mean_in_mlflow(text: str) -> None:
    assert ours(MODEL_VERSIONS, text) == theirs(versions_judge, stored_versions, text), text


def message_of_theirs(judge: Any, text: str) -> str | None:
    """What MLflow's parser says of a filter; None if it takes it."""
    try:
        judge.parse_search_filter(text)
    except MlflowException as error:
        return str(error.message)
    return None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name > 'a' AND foo = 'b'", "Invalid attribute key 'foo' specified. Valid keys are '"),
        (
            "tags.x < 'a' AND name = 7",
            "Expected a quoted string value or a list of quoted string values for attributes.",
        ),
        ("name > 'a' AND tags.x = 7", "Expected a quoted string value for tag"),
        ("name > 'a' AND tags.x < 'b'", "Invalid comparator for attribute: >"),
        ("tags.x < 'a' AND name > 'b'", "Invalid comparator for tag: <"),
        ("name < 'a' AND params.x = 'b'", "Invalid entity type 'params'."),
    ],
)
def test_of_two_faults_the_one_is_named_that_mlflow_names(text: str, message: str) -> None:
    with pytest.raises(BadFilter) as refused:
        REGISTERED_MODELS.filter(text)
    assert str(refused.value).startswith(message)
    said = message_of_theirs(models_judge, text)
    assert said is None if message.startswith("Invalid comparator") else str(said).startswith(message)


DIRECTIONS = st.sampled_from(["", "", " ASC", " desc", "  DESC", " foo", " ASC DESC", ", x"])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["name", "`name`", "timestamp", "last_updated_timestamp", "creation_timestamp", "x", "tags.x"]),
    DIRECTIONS,
)
def test_orders_of_registered_models_mean_what_they_mean_in_mlflow(key: str, direction: str) -> None:
    assume("`" not in key or direction.strip())
    text = key + direction
    try:
        name, ascending = orders_judge.parse_order_by_for_search_registered_models(text)
        judged = ("name" if name == "name" else "last_updated_timestamp", ascending)
    except (MlflowException, ValueError):
        judged = None
    assert order(REGISTERED_MODELS, text) == judged, text


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [
            "name",
            "`name`",
            "attribute.name",
            "version_number",
            "creation_timestamp",
            "last_updated_timestamp",
            "x",
            "foo.name",
        ]
    ),
    DIRECTIONS,
)
def test_orders_of_versions_mean_what_they_mean_in_mlflow(key: str, direction: str) -> None:
    text = key + direction
    try:
        _, name, ascending = versions_judge.parse_order_by_for_search_model_versions(text)
        judged = (name, ascending) if name in versions_judge.VALID_ORDER_BY_ATTRIBUTE_KEYS else None
    except (MlflowException, ValueError):
        judged = None
    assert order(MODEL_VERSIONS, text) == judged, text


def order(vocabulary: RegistryVocabulary, text: str) -> tuple[str, bool] | None:
    try:
        (found,) = vocabulary.order([text])
    except BadFilter:
        return None
    return found.key.name, found.ascending


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=100) | st.text("namersiontgs.'\"`()<>=!,AND ILKE01-\\", max_size=60))
def test_whatever_the_text_the_answer_is_clauses_or_bad_filter(text: str) -> None:
    for vocabulary in (REGISTERED_MODELS, MODEL_VERSIONS):
        ours(vocabulary, text)
        order(vocabulary, text)


def test_a_key_that_comes_twice_in_an_order_is_refused() -> None:
    for vocabulary in (REGISTERED_MODELS, MODEL_VERSIONS):
        with pytest.raises(BadFilter, match="`order_by` contains duplicate fields"):
            vocabulary.order(["name", "name DESC"])
