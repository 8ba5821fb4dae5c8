"""MLflow's own parser is the judge: what it accepts, ours accepts and means the same; what it refuses, ours refuses.

Deliberate divergences, each with a test below or out of the generator's reach:

* Keys that are SQL keywords (metrics.from, params.values) and path parts that begin with a digit (metrics.a.1) are keys
  like others.
  MLflow refuses them only because its lexer takes them for SQL.
* Numbers with a plus in the exponent (1e+16, as Python prints floats) and short ones with an exponent (.5e2) are
  numbers.
* Keys with brackets, double colons or signs (params.x[0], params.f(x), metrics.a::int, tags.a$b), an empty key
  (metrics.) and white space beside the
  dot are refused: MLflow takes them by accident of its SQL parser; quotes say the same.
* A LIKE pattern that ends with a single backslash is refused; MLflow on Postgres answers 500.
* `run_id = ('a')` is refused; MLflow's parser passes it on and the store fails.
* More than 100 clauses, or 256 Ki characters, are refused.
* White space alone is an empty filter. White space around an order_by is ignored.
* IN lists are not Python: no adjacent texts, escapes stay as they are. A list of bare words is BadFilter, not a
  ValueError.
* `metrics.created` is a metric of that name; MLflow's store looks for `start_time` instead.
* Clauses may stand beside each other without AND, whatever they are; MLflow takes most of them so, but no IN list after
  a list.
* A key with a doubled backtick has the same name in a filter and in an order; MLflow unescapes it only in the latter.
* Comparators of experiments may be in lower case, as those of runs.
"""

import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runfold_projections.core.errors import BadFilter
from runfold_projections.search.tree import Among, Clause, Compare, Presence
from runfold_projections.search.vocabulary import EXPERIMENTS, RUNS, Vocabulary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.exceptions import MlflowException
    from mlflow.store.entities.paged_list import PagedList  # noqa: F401  (imports what search_utils needs first)
    from mlflow.utils.search_utils import SearchExperimentsUtils, SearchUtils

runs_judge: Any = SearchUtils
experiments_judge: Any = SearchExperimentsUtils
Meaning = tuple[str, str, str, Any]

ENTITIES = ["metrics", "metric", "params", "param", "parameters", "parameter", "tags", "tag", "attributes", "attribute"]
ENTITIES += ["attr", "run", "datasets", "dataset", "`metrics`", "Metrics", "foo"]
BARE_KEYS = ["run_id", "status", "start_time", "created", "Created", "end_time", "run_name", "user_id", "artifact_uri"]
BARE_KEYS += [
    "name",
    "lifecycle_stage",
    '"run name"',
    "`Run Name`",
    "digest",
    "context",
    "x",
    "loss",
    "val_loss",
    "mlflow.user",
]
BARE_KEYS += ["creation_time", "last_update_time", "experiment_id", "ü1"]
QUOTED_KEYS = ['"a b"', "`a/b`", "`it's`", '"x.y"', "`a``b`", "'odd'"]
VALUES = [
    "1",
    "-1",
    "0.5",
    ".5",
    "5.",
    "1e5",
    "2E-3",
    "-0.5e2",
    "0",
    "123456789012345678",
    "'a'",
    "''",
    '"b c"',
    "'%x_'",
]
VALUES += [
    "'it''s'",
    "foo",
    "`q`",
    "('a')",
    "('a', \"b\")",
    "('a',)",
    "()",
    "(1)",
    "('a', 2)",
    "1_000",
    "inf",
    "'2'",
    "'x",
]
COMPARATORS = ["=", "!=", "<", "<=", ">", ">=", "LIKE", "like", "ILIKE", "ilike", "IN", "in", "NOT IN", "not in"]
COMPARATORS += ["==", "<>", "RLIKE", "NOT LIKE", "!", "IS"]
PRESENCE = ["IS NULL", "is null", "IS NOT NULL", "is not null"]
NOISE = ["OR", "AND", "NOT", ",", ";", "(", ")", "metrics.a", "= 1", "-- comment", "'"]


def keys() -> st.SearchStrategy[str]:
    dotted = st.builds("{}.{}".format, st.sampled_from(ENTITIES), st.sampled_from(BARE_KEYS + QUOTED_KEYS))
    return st.one_of(dotted, dotted, st.sampled_from(BARE_KEYS))


def clause_texts() -> st.SearchStrategy[str]:
    blank = st.sampled_from([" ", " ", "  ", "\n"])
    compared = st.tuples(keys(), blank, st.sampled_from(COMPARATORS), blank, st.sampled_from(VALUES)).map("".join)
    present = st.tuples(keys(), blank, st.sampled_from(PRESENCE)).map("".join)
    return st.one_of(compared, compared, compared, present)


def likely_clause_texts() -> st.SearchStrategy[str]:
    """Clauses that are mostly valid, so that conjunctions often are."""
    number = st.sampled_from([v for v in VALUES if v.lstrip("-").replace(".", "").replace("e", "").isalnum()])
    text = st.sampled_from(["'a'", '"b c"', "''", "'it''s'", "'%x_'"])
    key = st.sampled_from(["x", "loss", "mlflow.user", '"a b"', "`a/b`", "key", "date", "1a"])
    return st.one_of(
        st.builds("metrics.{} {} {}".format, key, st.sampled_from(COMPARATORS[:6]), number),
        st.builds("params.{}{}{}".format, key, st.sampled_from(["=", "!=", " LIKE ", " ilike "]), text),
        st.builds("tags.{} {}".format, key, st.sampled_from(PRESENCE)),
        st.builds(
            "datasets.{} {} {}".format,
            st.sampled_from(["name", "digest", "context"]),
            st.sampled_from(["=", "LIKE"]),
            text,
        ),
        st.builds(
            "{} {} {}".format,
            st.sampled_from(["start_time", "run.end_time", "created"]),
            st.sampled_from(COMPARATORS[:6]),
            number,
        ),
        st.builds("run_id {} ('a', 'b')".format, st.sampled_from(["IN", "not in"])),
    )


def likely_experiment_clause_texts() -> st.SearchStrategy[str]:
    number, text = st.sampled_from(["1", "-5", "1.5", "'1'"]), st.sampled_from(["'a'", '"%b_"', "''"])
    key = st.sampled_from(["x", "mlflow.user", '"a b"', "`a/b`"])
    return st.one_of(
        st.builds("name {} {}".format, st.sampled_from(["=", "!=", "LIKE", "ilike"]), text),
        st.builds("attribute.creation_time {} {}".format, st.sampled_from(COMPARATORS[:6]), number),
        st.builds("last_update_time{}{}".format, st.sampled_from(COMPARATORS[:6]), number),
        st.builds(
            "experiment_id {} {}".format, st.sampled_from(["=", "!=", "<"]), st.sampled_from(["'1'", "'x'", "1"])
        ),
        st.builds("experiment_id {} ('1', '2')".format, st.sampled_from(["IN", "not in"])),
        st.builds("tags.{} {} {}".format, key, st.sampled_from(["=", "!=", "LIKE"]), text),
        st.builds("tag.{} {}".format, key, st.sampled_from(PRESENCE)),
    )


def filters(likely: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    ands = st.sampled_from([" AND ", " and ", "\nAND\t", " AND AND "])
    parts = st.one_of(likely, likely, likely, clause_texts(), st.sampled_from(NOISE))
    pairs = st.lists(st.tuples(parts, ands), min_size=1, max_size=4)
    return pairs.map(lambda found: "".join(part + glue for part, glue in found[:-1]) + found[-1][0])


def canonical(kind: str, key: str) -> str:
    """The key without aliases. MLflow's store translates those of metrics, params and tags too: see the divergences."""
    return str(runs_judge.translate_key_alias(key)) if kind == "attribute" else key


def mlflow_meaning_of_runs(text: str) -> list[Meaning]:
    """As MLflow's store reads it: SearchUtils, then the comparators and values as `_get_sqlalchemy_filter_clauses`
    checks them.
    """
    found = []
    for clause in runs_judge.parse_search_filter(text):
        kind, key, value = clause["type"], canonical(clause["type"], clause["key"]), clause["value"]
        comparator = clause["comparator"].upper()
        is_one_of = (
            runs_judge.is_attribute(kind, key, comparator),
            runs_judge.is_metric(kind, comparator),
            runs_judge.is_param(kind, comparator),
            runs_judge.is_tag(kind, comparator),
            runs_judge.is_dataset(kind, comparator),
        )
        assert any(is_one_of)
        if isinstance(value, tuple) and comparator not in ("IN", "NOT IN"):
            raise MlflowException("the store fails on this")
        if not isinstance(value, tuple) and comparator in ("IN", "NOT IN"):
            raise MlflowException("the store fails on this")
        found.append((kind, key, comparator, float(value) if kind == "metric" else value))
    return found


def mlflow_meaning_of_experiments(text: str) -> list[Meaning]:
    found = []
    for clause in experiments_judge.parse_search_filter(text):
        kind, key, value = clause["type"], clause["key"], clause["value"]
        comparator = clause["comparator"].upper()
        if key == "experiment_id" and kind == "attribute":
            assert comparator in ("=", "!=", "IN", "NOT IN")
            value = tuple(int(v) for v in value) if isinstance(value, tuple) else int(value)
        elif kind == "attribute" and key in experiments_judge.NUMERIC_ATTRIBUTES:
            assert comparator in ("=", "!=", "<", "<=", ">", ">=")
            assert not isinstance(value, float)
        elif comparator not in ("IS NULL", "IS NOT NULL"):
            assert comparator in ("=", "!=", "LIKE", "ILIKE")
        if isinstance(value, tuple):
            assert comparator in ("IN", "NOT IN")
        elif comparator in ("IN", "NOT IN"):
            raise MlflowException("the store fails on this")
        found.append((kind, key, comparator, value))
    return found


def our_meaning(clause: Clause) -> Meaning:
    kind, key = clause.key.kind.value, clause.key.name
    match clause:
        case Compare(_, operator, value):
            return kind, key, operator.value, value
        case Among(_, values, negated):
            return kind, key, "NOT IN" if negated else "IN", values
        case Presence(_, present):
            return kind, key, "IS NOT NULL" if present else "IS NULL", None


def meaning_or_none(read: Callable[[str], list[Meaning]], text: str) -> list[Meaning] | None:
    try:
        return read(text)
    except (MlflowException, AssertionError, ValueError):
        return None


def ours(vocabulary: Vocabulary, text: str) -> list[Meaning] | None:
    try:
        return [our_meaning(clause) for clause in vocabulary.filter(text)]
    except BadFilter:
        return None


@settings(max_examples=1500, deadline=None)
@given(filters(likely_clause_texts()))
def test_filters_of_runs_mean_what_they_mean_in_mlflow(text: str) -> None:
    assert ours(RUNS, text) == meaning_or_none(mlflow_meaning_of_runs, text), text


@settings(max_examples=700, deadline=None)
@given(filters(likely_experiment_clause_texts()))
@example("tags.experiment_id = 'a'")
def test_filters_of_experiments_mean_what_they_mean_in_mlflow(text: str) -> None:
    assert ours(EXPERIMENTS, text) == meaning_or_none(mlflow_meaning_of_experiments, text), text


@settings(max_examples=500, deadline=None)
@given(
    keys() | st.sampled_from(["metrics.x", "params.key", 'tags."a b"', "metrics.`it's`"]),
    st.sampled_from(["", "", " ASC", " desc", "  DESC", "\nASC", " foo", " ASC DESC", ", x", " ASC NULLS LAST"]),
)
def test_orders_of_runs_mean_what_they_mean_in_mlflow(key: str, direction: str) -> None:
    assume("``" not in key)
    text = key + direction
    try:
        kind, name, ascending = runs_judge.parse_order_by_for_search_runs(text)
        theirs = (kind, canonical(kind, name), ascending) if kind != "dataset" else None
    except (MlflowException, ValueError):  # ValueError: shlex met a quote of its own
        theirs = None
    try:
        order = RUNS.order([text])[0]
        mine = (order.key.kind.value, order.key.name, order.ascending)
    except BadFilter:
        mine = None
    assert mine == theirs, text


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=200) | st.text("metricsparx.'\"`()<>=!~,AND ILKE01-\\", max_size=60))
def test_whatever_the_text_the_answer_is_clauses_or_bad_filter(text: str) -> None:
    for vocabulary in (RUNS, EXPERIMENTS):
        ours(vocabulary, text)
        try:
            vocabulary.order([text])
        except BadFilter:
            pass


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.sampled_from(["name", "experiment_id", "creation_time", "last_update_time", "tags.x", "tag.`a b`", "foo"]),
        st.sampled_from(["attribute.name", "attributes.name", "attr.name", "`name`", '"name"', "name.x", "tags.name"]),
        keys(),
    ),
    st.sampled_from(["", "", " ASC", " desc", "  DESC", "\nASC", " foo", " ASC DESC", ", x", " ASC NULLS LAST"]),
)
def test_orders_of_experiments_mean_what_they_mean_in_mlflow(key: str, direction: str) -> None:
    assume("``" not in key)
    text = key + direction
    try:
        kind, name, ascending = experiments_judge.parse_order_by_for_search_experiments(text)
        # Its store then looks the column up, and has no other entities.
        known = kind == "attribute" and name in experiments_judge.VALID_ORDER_BY_ATTRIBUTE_KEYS
        theirs = (kind, name, ascending) if known else None
    except (MlflowException, ValueError):
        theirs = None
    try:
        order = EXPERIMENTS.order([text])[0]
        mine = (order.key.kind.value, order.key.name, order.ascending)
    except BadFilter:
        mine = None
    assert mine == theirs, text
