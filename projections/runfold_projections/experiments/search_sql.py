"""SQL of a search of experiments."""

from collections.abc import Sequence

from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.search.sql import Parameters, Statement, comparison_sql, page_sql
from runfold_projections.search.tree import Clause, Key, KeyKind, Order, Presence

_COLUMNS = {
    "name": "x.name",
    "experiment_id": "x.experiment_id",
    "creation_time": "x.created_ms",
    "last_update_time": "x.updated_ms",
}
_EXPERIMENT_ID = Key(KeyKind.ATTRIBUTE, "experiment_id")
_STAGES = {
    ViewType.ACTIVE_ONLY: ["active"],
    ViewType.DELETED_ONLY: ["deleted"],
    ViewType.ALL: ["active", "deleted"],
}


def page_of_experiments(
    workspace: str,
    clauses: Sequence[Clause],
    view: ViewType,
    orders: Sequence[Order],
    limit: int,
    offset: int,
) -> Statement:
    """Return a statement that selects `experiment_id` of the matching experiments, by default the newest first, as
    MLflow.

    Raises BadQuery for a limit or offset out of range.
    """
    parameters = Parameters()
    where = [
        f"x.workspace = {parameters.add(workspace, 'text')}",
        f"x.lifecycle_stage = ANY ({parameters.add(_STAGES[view], 'text[]')})",
        *(_condition(clause, parameters) for clause in clauses),
    ]
    order_by = [_criterion(order) for order in orders] or ["x.created_ms DESC", "x.experiment_id"]
    if orders and all(order.key != _EXPERIMENT_ID for order in orders):
        order_by.append("x.experiment_id DESC")
    text = "\n".join(
        (
            "SELECT x.experiment_id",
            "FROM experiment x",
            "WHERE " + "\n  AND ".join(where),
            "ORDER BY " + ", ".join(order_by),
            page_sql(limit, offset, parameters),
        )
    )
    return Statement(text, tuple(parameters.values))


def _condition(clause: Clause, parameters: Parameters) -> str:
    if clause.key.kind is KeyKind.ATTRIBUTE and not isinstance(clause, Presence):
        return comparison_sql(_COLUMNS[clause.key.name], clause, parameters)
    test = f"t.key = {parameters.add(clause.key.name, 'text')}"
    if not isinstance(clause, Presence):
        test += f" AND {comparison_sql('t.value', clause, parameters)}"
    absent = isinstance(clause, Presence) and not clause.present
    held = f"EXISTS (SELECT FROM experiment_tag t WHERE t.experiment_id = x.experiment_id AND {test})"
    return f"NOT {held}" if absent else held


def _criterion(order: Order) -> str:
    column = _COLUMNS[order.key.name]
    if order.key.name == "name":
        column += ' COLLATE "C"'
    return f"{column} {'ASC' if order.ascending else 'DESC'}"
