"""A search of runs in SQL."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.search.sql import Parameters, Statement, comparison_sql, page_sql
from runfold_projections.search.tree import Clause, Compare, Key, KeyKind, Operator, Order, Presence

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
_TABLES = {KeyKind.METRIC: "metric", KeyKind.PARAM: "run_param", KeyKind.TAG: "run_tag"}
_DATASET_COLUMNS = {"name": "d.name", "digest": "d.digest", "context": "d.tags ->> 'mlflow.data.context'"}

# Two ways to test a key of a run by the primary key. The planner may turn a semijoin around and begin with the values,
# which is five times as fast if few match. But planning time grows with the number of semijoins: 4 ms for three, 200 ms
# for eight, minutes for a hundred.
MOST_SEMIJOINS = 3
_SEMIJOIN = "EXISTS (SELECT FROM {table} t WHERE t.run_id = r.run_id AND t.key = {name} AND {test})"
_LOOK_UP = "(SELECT {value} FROM {table} t WHERE t.run_id = r.run_id AND t.key = {name})"

# Hides the view of its name.
_WITH = """
WITH inherited AS MATERIALIZED (
    SELECT run_id, key, value FROM unnest({}, {}, {}) AS i (run_id, key, value)
), own AS NOT MATERIALIZED (
    SELECT run_id, key, value FROM metric
), metric AS NOT MATERIALIZED (
    SELECT m.run_id, m.key, m.value FROM own m
    WHERE NOT EXISTS (SELECT FROM inherited i WHERE i.run_id = m.run_id AND i.key = m.key)
    UNION ALL SELECT run_id, key, value FROM inherited
)"""
_NOTHING: Mapping[tuple[str, str], float] = {}

START_TIME = Key(KeyKind.ATTRIBUTE, "start_time")


@dataclass(frozen=True, slots=True)
class SearchScope:
    """The experiments of a search. `deleted` are the deleted ones, whose runs all count as deleted."""

    experiments: Sequence[int]
    deleted: frozenset[int]
    view: ViewType


def page_of_run_ids(
    scope: SearchScope,
    clauses: Sequence[Clause],
    orders: Sequence[Order],
    limit: int,
    offset: int,
    inherited: Mapping[tuple[str, str], float] = _NOTHING,
) -> Statement:
    """Build the query for the ids of the matching runs in order. BadQuery for a limit or offset out of range.

    `inherited` are metrics, by run and key, that replace those in the table, which cover what each run logged itself.
    """
    parameters = Parameters()
    first = [_WITH.format(*_columns(inherited, parameters))] if inherited else []
    where = [*_scope(scope, parameters), *_conditions(clauses, parameters)]
    joins: list[str] = []
    order_by: list[str] = []
    for order in orders:
        order_by += _criterion(order, joins, parameters)
    if not any(order.key == START_TIME for order in orders):
        order_by.append("r.start_ms DESC")
    order_by.append("r.run_id")
    text = "\n".join(
        (
            *first,
            "SELECT r.run_id FROM run r",
            *joins,
            "WHERE " + "\n  AND ".join(where),
            "ORDER BY " + ", ".join(order_by),
            page_sql(limit, offset, parameters),
        )
    )
    return Statement(text, tuple(parameters.values))


def _columns(inherited: Mapping[tuple[str, str], float], parameters: Parameters) -> Iterator[str]:
    run_ids, keys = zip(*inherited, strict=True)
    for column, kind in ((run_ids, "text[]"), (keys, "text[]"), (inherited.values(), "double precision[]")):
        yield parameters.add(list(column), kind)


def _scope(scope: SearchScope, parameters: Parameters) -> list[str]:
    if scope.view is ViewType.ACTIVE_ONLY:
        alive = [experiment for experiment in scope.experiments if experiment not in scope.deleted]
        return [_in_experiments(alive, parameters), "r.lifecycle_stage = 'active'"]
    conditions = [_in_experiments(scope.experiments, parameters)]
    if scope.view is ViewType.DELETED_ONLY:
        gone = _in_experiments(sorted(scope.deleted), parameters)
        conditions.append(f"(r.lifecycle_stage = 'deleted' OR {gone})")
    return conditions


def _in_experiments(ids: Sequence[int], parameters: Parameters) -> str:
    # With an equality, the index on (experiment_id, start_ms DESC, run_id) delivers the default order without a sort.
    if len(ids) == 1:
        return f"r.experiment_id = {parameters.add(ids[0], 'bigint')}"
    return f"r.experiment_id = ANY ({parameters.add(list(ids), 'bigint[]')})"


def _conditions(clauses: Sequence[Clause], parameters: Parameters) -> Iterator[str]:
    semijoins = 0
    for clause in clauses:
        if isinstance(clause, Compare) and clause.key.kind in _TABLES and semijoins < MOST_SEMIJOINS:
            semijoins += 1
            yield _semijoin(clause, parameters)
        else:
            yield _condition(clause, parameters)


def _condition(clause: Clause, parameters: Parameters) -> str:
    key = clause.key
    if key.kind is KeyKind.DATASET and not isinstance(clause, Presence):
        test = comparison_sql(f"({_DATASET_COLUMNS[key.name]})", clause, parameters)
        return f"EXISTS (SELECT FROM run_dataset d WHERE d.run_id = r.run_id AND {test} OFFSET 0)"
    if key.kind is KeyKind.ATTRIBUTE:
        value = _COLUMNS[key.name]
    else:
        name = parameters.add(key.name, "text")
        value = _LOOK_UP.format(value=_stored_value(clause), table=_TABLES[key.kind], name=name)
    if isinstance(clause, Presence):
        return f"{value} IS {'NOT ' if clause.present else ''}NULL"
    return comparison_sql(value, clause, parameters)


def _semijoin(clause: Compare, parameters: Parameters) -> str:
    test = comparison_sql(_stored_value(clause), clause, parameters)
    if clause.key.kind is KeyKind.TAG and clause.operator is Operator.EQUAL:
        # The index covers a prefix: values may be longer than an index allows.
        test += f" AND left(t.value, 64) = left(${len(parameters.values)}, 64)"
    name = parameters.add(clause.key.name, "text")
    return _SEMIJOIN.format(table=_TABLES[clause.key.kind], name=name, test=test)


def _stored_value(clause: Clause) -> str:
    if clause.key.kind is KeyKind.METRIC and not (isinstance(clause, Compare) and clause.operator is Operator.UNEQUAL):
        # For Postgres, NaN is the largest number; for MLflow it is unequal to every number, and matches nothing else.
        return "NULLIF(t.value, 'NaN')"
    return "t.value"


def _criterion(order: Order, joins: list[str], parameters: Parameters) -> list[str]:
    """Order runs without the value last in both directions, and NaN just before them, as MLflow's store does."""
    direction = "ASC" if order.ascending else "DESC"
    if order.key.kind is KeyKind.ATTRIBUTE:
        column = _COLUMNS[order.key.name]
        if order.key.name in _TEXT_ATTRIBUTES:
            column += ' COLLATE "C"'
        return [f"{column} {direction} NULLS LAST"]
    alias = f"o{len(joins)}"
    name = parameters.add(order.key.name, "text")
    joins.append(f"LEFT JOIN {_TABLES[order.key.kind]} {alias} ON {alias}.run_id = r.run_id AND {alias}.key = {name}")
    if order.key.kind is KeyKind.METRIC:
        rank = f"CASE WHEN {alias}.value IS NULL THEN 2 WHEN {alias}.value = 'NaN' THEN 1 ELSE 0 END"
        return [rank, f"{alias}.value {direction}"]
    # By code points, so the order does not depend on the database's locale.
    return [f'{alias}.value COLLATE "C" {direction} NULLS LAST']
