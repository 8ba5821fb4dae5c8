"""SQL of the registry's searches.

Prompts are registered models with a tag. As in MLflow's store, a search finds either models or prompts: prompts if its
first clause about that tag asks for them, which is then a clause like any other; else models, and clauses about the tag
are ignored.
"""

from collections.abc import Callable, Sequence

from runfold_projections.search.sql import Parameters, Statement, comparison_sql, page_sql
from runfold_projections.search.tree import Clause, Compare, KeyKind, Operator, Order, Presence

from .fold import PROMPT_TAG

_MODEL_COLUMNS = {"name": "m.name", "last_updated_timestamp": "m.updated_ms"}
_VERSION_COLUMNS = {
    "name": "m.name",
    "version_number": "v.version",
    "run_id": "v.run_id",
    "source_path": "v.source",
    "creation_timestamp": "v.created_ms",
    "last_updated_timestamp": "greatest(v.updated_ms, m.renamed_ms)",
}


def page_of_models(
    workspace: str, clauses: Sequence[Clause], orders: Sequence[Order], limit: int, offset: int
) -> Statement:
    """Return a statement that selects `born` of the matching models, by default ordered by name.

    Raises BadQuery for a limit or offset out of range.
    """
    parameters = Parameters()
    where = [
        f"m.workspace = {parameters.add(workspace, 'text')}",
        *_conditions(clauses, parameters, _MODEL_COLUMNS, _model_tag, _NO_PROMPT),
    ]
    order_by = [_criterion(order, _MODEL_COLUMNS) for order in orders]
    if all(order.key.name != "name" for order in orders):
        order_by.append("m.name")
    return _statement(
        "SELECT m.born\nFROM registered_model m", where, order_by, page_sql(limit, offset, parameters), parameters
    )


def page_of_versions(
    workspace: str, clauses: Sequence[Clause], orders: Sequence[Order], limit: int, offset: int
) -> Statement:
    """Return a statement that selects `born` and `version` of the matching versions, by default the last updated first.

    Raises BadQuery for a limit or offset out of range.
    """
    parameters = Parameters()
    where = [
        f"m.workspace = {parameters.add(workspace, 'text')}",
        *_conditions(clauses, parameters, _VERSION_COLUMNS, _version_tag, _NO_PROMPT_VERSION),
    ]
    order_by = [_criterion(order, _VERSION_COLUMNS) for order in orders] or [
        f"{_VERSION_COLUMNS['last_updated_timestamp']} DESC"
    ]
    named = {order.key.name for order in orders}
    order_by += [text for name, text in (("name", "m.name"), ("version_number", "v.version DESC")) if name not in named]
    begin = "SELECT v.born, v.version\nFROM model_version v JOIN registered_model m USING (born)"
    return _statement(begin, where, order_by, page_sql(limit, offset, parameters), parameters)


def _statement(
    begin: str, where: Sequence[str], order_by: Sequence[str], end: str, parameters: Parameters
) -> Statement:
    parts = (begin, "WHERE " + "\n  AND ".join(where), "ORDER BY " + ", ".join(order_by), end)
    return Statement("\n".join(parts), tuple(parameters.values))


_NO_PROMPT = f"""NOT EXISTS (
    SELECT FROM registered_model_tag p WHERE p.born = m.born AND p.key = '{PROMPT_TAG}' AND p.value = 'true')"""
_NO_PROMPT_VERSION = f"""NOT EXISTS (
    SELECT FROM model_version_tag p WHERE p.born = v.born AND p.key = '{PROMPT_TAG}' AND p.value = 'true')"""


def _conditions(
    clauses: Sequence[Clause],
    parameters: Parameters,
    columns: dict[str, str],
    held: Callable[[str], str],
    no_prompt: str,
) -> list[str]:
    prompts = _asks_for_prompts(clauses)
    found = [] if prompts else [no_prompt]
    for clause in clauses:
        # The registry's vocabulary has no presence clauses.
        assert not isinstance(clause, Presence)
        if clause.key.kind is KeyKind.ATTRIBUTE:
            found.append(comparison_sql(columns[clause.key.name], clause, parameters))
        elif prompts or clause.key.name != PROMPT_TAG:
            test = (
                f"t.key = {parameters.add(clause.key.name, 'text')} AND {comparison_sql('t.value', clause, parameters)}"
            )
            found.append(held(test))
    return found


def _model_tag(test: str) -> str:
    return f"EXISTS (SELECT FROM registered_model_tag t WHERE t.born = m.born AND {test})"


def _version_tag(test: str) -> str:
    return f"EXISTS (SELECT FROM model_version_tag t WHERE t.born = v.born AND t.version = v.version AND {test})"


def _asks_for_prompts(clauses: Sequence[Clause]) -> bool:
    for clause in clauses:
        if clause.key.kind is KeyKind.TAG and clause.key.name == PROMPT_TAG and isinstance(clause, Compare):
            value = str(clause.value).lower()
            return (clause.operator, value) in ((Operator.EQUAL, "true"), (Operator.UNEQUAL, "false"))
    return False


def _criterion(order: Order, columns: dict[str, str]) -> str:
    return f"{columns[order.key.name]} {'ASC' if order.ascending else 'DESC'}"
