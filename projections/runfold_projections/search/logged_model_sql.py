"""A search of logged models in SQL."""

from collections.abc import Sequence
from dataclasses import dataclass

from .logged_model_words import CREATED, UPDATED, MeasuredOn, ModelOrder
from .sql import OPERATORS, Parameters, Statement, compared, page
from .tree import Clause, Compare, Kind, Operator, Presence

_COLUMNS = {
    "model_id": "m.model_id",
    "experiment_id": "m.experiment_id::text",
    "name": "m.name",
    "artifact_location": "m.artifact_uri",
    CREATED: "m.created_ms",
    UPDATED: "m.updated_ms",
    "status": "m.status",
    "lifecycle_stage": "m.lifecycle_stage",
    "model_type": "m.model_type",
    "source_run_id": "m.source_run_id",
}
_SORTED_AS_NUMBERS = {"experiment_id": "m.experiment_id"}
_TABLES = {Kind.PARAM: "logged_model_param", Kind.TAG: "logged_model_tag"}
# A run that nobody created has no points that anybody sees.
_SEEN = "EXISTS (SELECT FROM run r WHERE r.run_id = x.run_id)"


@dataclass(frozen=True, slots=True)
class ModelSearch:
    """A search of a workspace's logged models that are not deleted."""

    workspace: str
    experiments: Sequence[int]
    clauses: Sequence[Clause]
    datasets: Sequence[MeasuredOn]
    """If there are some, metrics count only where they were measured on one of them."""
    orders: Sequence[ModelOrder]


def page_of_models(search: ModelSearch, limit: int, offset: int) -> Statement:
    """Selects `model_id` of the matching models, in order: by default the newest first, then by id, as MLflow's store does.

    BadQuery for a limit or offset out of range.
    """
    parameters = Parameters()
    where = [
        f"m.workspace = {parameters.add(search.workspace, 'text')}",
        "m.lifecycle_stage <> 'deleted'",
        f"m.experiment_id = ANY ({parameters.add(list(search.experiments), 'bigint[]')})",
        *(_condition(clause, search.datasets, parameters) for clause in search.clauses),
    ]
    if search.datasets and all(clause.key.kind is not Kind.METRIC for clause in search.clauses):
        where.append(_measured(None, "true", search.datasets, parameters))
    joins, order_by = [], []
    for number, order in enumerate(search.orders):
        if order.order.key.kind is Kind.METRIC:
            joins.append(_latest(number, order, parameters))
        order_by += _criterion(number, order)
    named = {order.order.key.name for order in search.orders if order.order.key.kind is Kind.ATTRIBUTE}
    order_by += [] if CREATED in named else ["m.created_ms DESC"]
    order_by += [] if "model_id" in named else ["m.model_id"]
    text = "\n".join(
        (
            "SELECT m.model_id",
            "FROM logged_model m",
            *joins,
            "WHERE " + "\n  AND ".join(where),
            "ORDER BY " + ", ".join(order_by),
            page(limit, offset, parameters),
        )
    )
    return Statement(text, tuple(parameters.values))


def _condition(clause: Clause, datasets: Sequence[MeasuredOn], parameters: Parameters) -> str:
    key = clause.key
    if key.kind is Kind.METRIC:
        assert isinstance(clause, Compare), clause
        return _measured(key.name, _some_point(clause, parameters), datasets, parameters)
    assert not isinstance(clause, Presence), "this language has no presence"
    if key.kind is Kind.ATTRIBUTE:
        test = compared(_COLUMNS[key.name], clause, parameters)
        if key.name == "name" and isinstance(clause, Compare) and clause.operator is Operator.EQUAL:
            # What the index has: every list of a run's files asks for a model of the folder's name.
            test += f" AND left(m.name, 128) = left({parameters.add(clause.value, 'text')}, 128)"
        return test
    test = f"t.key = {parameters.add(key.name, 'text')} AND {compared('t.value', clause, parameters)}"
    return f"EXISTS (SELECT FROM {_TABLES[key.kind]} t WHERE t.model_id = m.model_id AND {test})"


def _some_point(clause: Compare, parameters: Parameters) -> str:
    """Whether some point of the metric compares so, as MLflow asks, out of the latest value and the extremes."""
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


def _measured(key: str | None, test: str, datasets: Sequence[MeasuredOn], parameters: Parameters) -> str:
    """Whether something that was measured of the model, of a key or of any, passes a test of `x`."""
    if datasets:
        on = []
        for dataset in datasets:
            one = f"x.dataset_name = {parameters.add(dataset.name, 'text')}"
            if dataset.digest is not None:
                one += f" AND x.dataset_digest = {parameters.add(dataset.digest, 'text')}"
            on.append(f"({one})")
        test += f" AND ({' OR '.join(on)})"
    if key is None:
        tables = [f"{table} x WHERE x.model_id = m.model_id" for table in ("model_value", "model_block")]
    else:
        tables = [f"{part} x WHERE true" for part in _parts(parameters.add(key, "text"))]
    return "(" + " OR ".join(f"EXISTS (SELECT FROM {table} AND {test} AND {_SEEN})" for table in tables) + ")"


def _parts(key: str) -> tuple[str, str]:
    """What rows and blocks say of a key of the model `m`."""
    columns = "run_id, dataset_name, dataset_digest, time_ms, step"
    return (
        f"(SELECT {columns}, value, least, most FROM model_value WHERE model_id = m.model_id AND key = {key})",  # noqa: S608
        f"""(SELECT {columns}, value[place] AS value, nullif(least[place], 'NaN') AS least,
                    CASE WHEN least[place] <> 'NaN' THEN most[place] END AS most
             FROM model_block CROSS JOIN LATERAL array_position(keys, {key}) AS place
             WHERE model_id = m.model_id AND {key} BETWEEN first_key AND last_key AND place IS NOT NULL)""",  # noqa: S608
    )


def _latest(number: int, order: ModelOrder, parameters: Parameters) -> str:
    rows, blocks = _parts(parameters.add(order.order.key.name, "text"))
    where = [_SEEN]
    if order.name is not None:
        where.append(f"x.dataset_name = {parameters.add(order.name, 'text')}")
    if order.digest is not None:
        where.append(f"x.dataset_digest = {parameters.add(order.digest, 'text')}")
    newest = "ORDER BY x.time_ms DESC, x.step DESC, x.run_id, x.value DESC LIMIT 1"
    return "\n".join(
        (
            "LEFT JOIN LATERAL (",
            f"SELECT x.value FROM (SELECT * FROM {rows} r UNION ALL SELECT * FROM {blocks} b) x",  # noqa: S608
            f"WHERE {' AND '.join(where)} {newest}",
            f") o{number} ON true",
        )
    )


def _criterion(number: int, order: ModelOrder) -> list[str]:
    direction = "ASC" if order.order.ascending else "DESC"
    if order.order.key.kind is Kind.METRIC:
        value = f"o{number}.value"
        # Nothing comes last in both directions, NaN just before it.
        return [f"{value} IS NULL", f"{value} = 'NaN'", f"{value} {direction}"]
    name = order.order.key.name
    column = _SORTED_AS_NUMBERS.get(name, _COLUMNS[name])
    collated = column if name in (CREATED, UPDATED, "experiment_id") else f'{column} COLLATE "C"'
    return [f"{column} IS NULL", f"{collated} {direction}"]
