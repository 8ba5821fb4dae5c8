"""SQL of a search of logged models."""

from collections.abc import Sequence
from dataclasses import dataclass

from runfold_projections.search.sql import OPERATORS, Parameters, Statement, comparison_sql, page_sql
from runfold_projections.search.tree import Clause, Compare, KeyKind, Operator, Presence

from .search_vocabulary import CREATED, UPDATED, MeasuredOn, ModelOrder

_COLUMNS = {
    "model_id": "m.model_id",
    "experiment_id": "m.experiment_id::text",
    "name": "m.name",
    "artifact_location": "m.artifact_uri",
    CREATED: "m.created_ms",
    UPDATED: "m.updated_ms",
    "status": "m.status",
    "lifecycle_stage": "m.lifecycle_stage",
    # A missing value is an empty text in answers, and so in filters.
    "model_type": "coalesce(m.model_type, '')",
    "source_run_id": "coalesce(m.source_run_id, '')",
}
_SORTED_AS_NUMBERS = {"experiment_id": "m.experiment_id"}
_TABLES = {KeyKind.PARAM: "logged_model_param", KeyKind.TAG: "logged_model_tag"}
# Points of a run that does not exist are invisible.
_SEEN = "EXISTS (SELECT FROM run r WHERE r.run_id = x.run_id)"


@dataclass(frozen=True, slots=True)
class ModelSearch:
    """A search of the logged models of a workspace that are not deleted."""

    workspace: str
    experiments: Sequence[int]
    clauses: Sequence[Clause]
    datasets: Sequence[MeasuredOn]
    """If not empty, only metrics measured on one of them count."""
    orders: Sequence[ModelOrder]


class _Measured:
    """Metrics of the models of some experiments: rows of `x`, from rows per key and from blocks of keys.

    Both are joined with the models inside the sub-query, uncorrelated, so that Postgres can go from few models to their
    rows, or read the rows of many models once, whichever is cheaper.
    """

    def __init__(self, experiments: Sequence[int], parameters: Parameters) -> None:
        self._parameters = parameters
        self.experiments = parameters.add(list(experiments), "bigint[]")

    def of_key(self, what: str, key: str, test: str) -> str:
        """Return a query for `what` of the metrics of a key that pass a test."""
        name = self._parameters.add(key, "text")
        where = f"l.experiment_id = ANY ({self.experiments})"
        return f"""
    SELECT {what} FROM logged_model l JOIN model_value x USING (model_id)
    WHERE {where} AND x.key = {name} AND {test} AND {_SEEN}
    UNION ALL
    SELECT {what} FROM (
        SELECT model_id, b.run_id, b.dataset_name, b.dataset_digest, b.time_ms, b.step, b.value[place] AS value,
               nullif(b.least[place], 'NaN') AS least, CASE WHEN b.least[place] <> 'NaN' THEN b.most[place] END AS most
        FROM logged_model l JOIN model_block b USING (model_id) CROSS
            JOIN LATERAL array_position(b.keys, {name}) AS place
        WHERE {where} AND {name} BETWEEN b.first_key AND b.last_key AND place IS NOT NULL
    ) x WHERE {test} AND {_SEEN}"""  # noqa: S608

    def of_any(self, test: str) -> str:
        """Return a query for the models with any metric that passes a test without a value."""
        return " UNION ALL ".join(
            f"SELECT model_id FROM logged_model l JOIN {table} x USING (model_id) "  # noqa: S608
            f"WHERE l.experiment_id = ANY ({self.experiments}) AND {test} AND {_SEEN}"
            for table in ("model_value", "model_block")
        )

    def on(self, datasets: Sequence[MeasuredOn]) -> str:
        """Return the test for metrics measured on one of these datasets; `true` if there are none."""
        tests = []
        for dataset in datasets:
            one = f"x.dataset_name = {self._parameters.add(dataset.name, 'text')}"
            if dataset.digest is not None:
                one += f" AND x.dataset_digest = {self._parameters.add(dataset.digest, 'text')}"
            tests.append(f"({one})")
        return f"({' OR '.join(tests)})" if tests else "true"


def page_of_models(search: ModelSearch, limit: int, offset: int) -> Statement:
    """Return a statement that selects `model_id` of the matching models: by default the newest first, then by id, as
    MLflow.

    Raises BadQuery for a limit or offset out of range.
    """
    parameters = Parameters()
    measured = _Measured(search.experiments, parameters)
    where = [
        f"m.workspace = {parameters.add(search.workspace, 'text')}",
        "m.lifecycle_stage <> 'deleted'",
        f"m.experiment_id = ANY ({measured.experiments})",
    ]
    where += [_condition(clause, search.datasets, measured, parameters) for clause in search.clauses]
    if search.datasets and all(clause.key.kind is not KeyKind.METRIC for clause in search.clauses):
        where.append(f"m.model_id IN ({measured.of_any(measured.on(search.datasets))})")
    joins, order_by = [], []
    for number, order in enumerate(search.orders):
        if order.order.key.kind is KeyKind.METRIC:
            joins.append(_latest(number, order, measured, parameters))
        order_by += _criterion(number, order)
    named = {order.order.key.name for order in search.orders if order.order.key.kind is KeyKind.ATTRIBUTE}
    order_by += [] if CREATED in named else ["m.created_ms DESC"]
    order_by += [] if "model_id" in named else ["m.model_id"]
    text = "\n".join(
        (
            "SELECT m.model_id",
            "FROM logged_model m",
            *joins,
            "WHERE " + "\n  AND ".join(where),
            "ORDER BY " + ", ".join(order_by),
            page_sql(limit, offset, parameters),
        )
    )
    return Statement(text, tuple(parameters.values))


def _condition(clause: Clause, datasets: Sequence[MeasuredOn], measured: _Measured, parameters: Parameters) -> str:
    key = clause.key
    if key.kind is KeyKind.METRIC:
        assert isinstance(clause, Compare), clause
        test = f"{_some_point(clause, parameters)} AND {measured.on(datasets)}"
        return f"m.model_id IN ({measured.of_key('model_id', key.name, test)})"
    assert not isinstance(clause, Presence), "this language has no presence"
    if key.kind is KeyKind.ATTRIBUTE:
        test = comparison_sql(_COLUMNS[key.name], clause, parameters)
        if key.name == "name" and isinstance(clause, Compare) and clause.operator is Operator.EQUAL:
            # Uses the index: every listing of a run's files searches for a model of the folder's name.
            test += f" AND left(m.name, 128) = left({parameters.add(clause.value, 'text')}, 128)"
        return test
    test = f"t.key = {parameters.add(key.name, 'text')} AND {comparison_sql('t.value', clause, parameters)}"
    return f"EXISTS (SELECT FROM {_TABLES[key.kind]} t WHERE t.model_id = m.model_id AND {test})"


def _some_point(clause: Compare, parameters: Parameters) -> str:
    """Return the test whether any point of the metric compares so, as in MLflow, by latest value and extremes."""
    value = parameters.add(clause.value, "double precision")
    match clause.operator:
        case Operator.LESS | Operator.AT_MOST:
            return f"x.least {OPERATORS[clause.operator]} {value}"
        case Operator.MORE | Operator.AT_LEAST:
            return f"x.most {OPERATORS[clause.operator]} {value}"
        case Operator.EQUAL:
            return f"{value} IN (x.value, x.least, x.most)"
    # NaN is unequal to every number.
    return f"(x.value <> {value} OR x.least <> {value} OR x.most <> {value})"


def _latest(number: int, order: ModelOrder, measured: _Measured, parameters: Parameters) -> str:
    where = []
    if order.name is not None:
        where.append(f"x.dataset_name = {parameters.add(order.name, 'text')}")
    if order.digest is not None:
        where.append(f"x.dataset_digest = {parameters.add(order.digest, 'text')}")
    columns = "model_id, x.run_id, x.time_ms, x.step, x.value"
    rows = measured.of_key(columns, order.order.key.name, " AND ".join(where) or "true")
    return (
        f"LEFT JOIN (SELECT DISTINCT ON (model_id) model_id, value FROM ({rows}) AS points "  # noqa: S608
        f"ORDER BY model_id, time_ms DESC, step DESC, run_id, value DESC) o{number} USING (model_id)"
    )


def _criterion(number: int, order: ModelOrder) -> list[str]:
    direction = "ASC" if order.order.ascending else "DESC"
    if order.order.key.kind is KeyKind.METRIC:
        value = f"o{number}.value"
        # In both directions, missing values come last and NaN before them.
        return [f"{value} IS NULL", f"{value} = 'NaN'", f"{value} {direction}"]
    name = order.order.key.name
    column = _SORTED_AS_NUMBERS.get(name, _COLUMNS[name])
    collated = column if name in (CREATED, UPDATED, "experiment_id") else f'{column} COLLATE "C"'
    return [f"{column} IS NULL", f"{collated} {direction}"]
