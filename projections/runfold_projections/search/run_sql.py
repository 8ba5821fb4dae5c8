"""A search of runs in SQL."""

from collections.abc import Sequence

from .sql import Parameters, Statement, compared, page
from .tree import Clause, Compare, Key, Kind, Operator, Order, Presence
from .view import ViewType

_COLUMNS = {
    "run_id": "r.run_id",
    "run_name": "r.name",
    "status": "r.status",
    "artifact_uri": "r.artifact_uri",
    "user_id": "r.user_id",
    "start_time": "r.start_ms",
    "end_time": "r.end_ms",
}
_TEXT_ATTRIBUTES = frozenset({"run_id", "run_name", "status", "artifact_uri", "user_id"})
_TABLES = {Kind.METRIC: "metric", Kind.PARAM: "run_param", Kind.TAG: "run_tag"}
_DATASET_COLUMNS = {"name": "d.name", "digest": "d.digest", "context": "d.tags ->> 'mlflow.data.context'"}

_DELETED_AMONG = (
    "SELECT e.experiment_id FROM experiment e WHERE e.experiment_id {asked} AND e.lifecycle_stage = 'deleted'"
)

START_TIME = Key(Kind.ATTRIBUTE, "start_time")


def page_of_runs(
    experiment_ids: Sequence[int],
    clauses: Sequence[Clause],
    view: ViewType,
    orders: Sequence[Order],
    limit: int,
    offset: int,
) -> Statement:
    """Selects `run_id` of the matching runs, in order. BadQuery for a limit or offset out of range."""
    parameters = Parameters()
    where = [*_scope(experiment_ids, view, parameters), *(_condition(clause, parameters) for clause in clauses)]
    joins: list[str] = []
    order_by: list[str] = []
    for order in orders:
        order_by += _criterion(order, joins, parameters)
    if not any(order.key == START_TIME for order in orders):
        order_by.append("r.start_ms DESC")
    order_by.append("r.run_id")
    text = "\n".join(
        (
            "SELECT r.run_id",
            "FROM run r",
            *joins,
            "WHERE " + "\n  AND ".join(where),
            "ORDER BY " + ", ".join(order_by),
            page(limit, offset, parameters),
        )
    )
    return Statement(text, tuple(parameters.values))


def _scope(experiment_ids: Sequence[int], view: ViewType, parameters: Parameters) -> list[str]:
    # One id as an equality lets the index on (experiment_id, start_ms DESC, run_id) deliver the default order without a sort.
    if len(experiment_ids) == 1:
        asked = f"= {parameters.add(experiment_ids[0], 'bigint')}"
    else:
        asked = f"= ANY ({parameters.add(list(experiment_ids), 'bigint[]')})"
    # Which experiments are deleted is asked once per statement, not per run.
    deleted = f"ARRAY({_DELETED_AMONG.format(asked=asked)})"
    scope = [f"r.experiment_id {asked}"]
    if view is ViewType.ACTIVE_ONLY:
        scope += ["r.lifecycle_stage = 'active'", f"r.experiment_id <> ALL ({deleted})"]
    elif view is ViewType.DELETED_ONLY:
        scope.append(f"(r.lifecycle_stage = 'deleted' OR r.experiment_id = ANY ({deleted}))")
    return scope


def _condition(clause: Clause, parameters: Parameters) -> str:
    key = clause.key
    if isinstance(clause, Presence):
        held = _holds(_TABLES[key.kind], f"t.key = {parameters.add(key.name, 'text')}")
        return held if clause.present else f"NOT {held}"
    if key.kind is Kind.ATTRIBUTE:
        return compared(_COLUMNS[key.name], clause, parameters)
    if key.kind is Kind.DATASET:
        test = compared(f"({_DATASET_COLUMNS[key.name]})", clause, parameters)
        return f"EXISTS (SELECT FROM run_dataset d WHERE d.run_id = r.run_id AND {test})"
    tests = [f"t.key = {parameters.add(key.name, 'text')}", compared("t.value", clause, parameters)]
    if key.kind is Kind.METRIC and isinstance(clause, Compare) and _lets_nan_in(clause.operator):
        tests.append("t.value <> 'NaN'")
    return _holds(_TABLES[key.kind], *tests)


def _lets_nan_in(operator: Operator) -> bool:
    """Postgres holds NaN for the largest number; in MLflow it is only unequal to each."""
    return operator in (Operator.MORE, Operator.AT_LEAST)


def _holds(table: str, *tests: str) -> str:
    return f"EXISTS (SELECT FROM {table} t WHERE t.run_id = r.run_id AND {' AND '.join(tests)})"


def _criterion(order: Order, joins: list[str], parameters: Parameters) -> list[str]:
    """Runs without the value come last in both directions, and NaN just before them, as in MLflow's store."""
    direction = "ASC" if order.ascending else "DESC"
    if order.key.kind is Kind.ATTRIBUTE:
        column = _COLUMNS[order.key.name]
        if order.key.name in _TEXT_ATTRIBUTES:
            column += ' COLLATE "C"'
        return [f"{column} {direction} NULLS LAST"]
    alias = f"o{len(joins)}"
    name = parameters.add(order.key.name, "text")
    joins.append(f"LEFT JOIN {_TABLES[order.key.kind]} {alias} ON {alias}.run_id = r.run_id AND {alias}.key = {name}")
    if order.key.kind is Kind.METRIC:
        rank = f"CASE WHEN {alias}.value IS NULL THEN 2 WHEN {alias}.value = 'NaN' THEN 1 ELSE 0 END"
        return [rank, f"{alias}.value {direction}"]
    # Code points, so that an installation's order does not hang on its database's locale.
    return [f'{alias}.value COLLATE "C" {direction} NULLS LAST']
