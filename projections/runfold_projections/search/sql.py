"""SQL of all searches: parameters, comparisons, and the bounds of a page."""

from dataclasses import dataclass, field
from typing import Any

from runfold_projections.core.errors import BadQuery

from .tree import Among, Compare, Operator

# The only SQL that a caller can choose. Postgres escapes with a backslash in patterns, as MLflow does.
OPERATORS = {
    Operator.EQUAL: "=",
    Operator.UNEQUAL: "<>",
    Operator.LESS: "<",
    Operator.AT_MOST: "<=",
    Operator.MORE: ">",
    Operator.AT_LEAST: ">=",
    Operator.LIKE: "LIKE",
    Operator.ILIKE: "ILIKE",
}
_MOST = 2**63 - 1


@dataclass(slots=True)
class Parameters:
    """The values of a statement's $1, $2…"""

    values: list[Any] = field(default_factory=list)

    def add(self, value: Any, sql_type: str) -> str:
        """Add a value and return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and its parameters, ready for asyncpg: `connection.fetch(s.text, *s.values)`."""

    text: str
    values: tuple[Any, ...]


def comparison_sql(column: str, clause: Compare | Among, parameters: Parameters) -> str:
    """Return the clause as a condition on the column. NULL compares as unknown, so it never matches."""
    if isinstance(clause, Among):
        sql_type = "bigint[]" if isinstance(clause.values[0], int) else "text[]"
        values = parameters.add(list(clause.values), sql_type)
        return f"{column} <> ALL ({values})" if clause.negated else f"{column} = ANY ({values})"
    sql_type = {int: "bigint", float: "double precision", str: "text"}[type(clause.value)]
    return f"{column} {OPERATORS[clause.operator]} {parameters.add(clause.value, sql_type)}"


def page_sql(limit: int, offset: int, parameters: Parameters) -> str:
    """LIMIT and OFFSET. BadQuery if one is negative or no bigint."""
    check_page(limit, offset)
    return f"LIMIT {parameters.add(limit, 'bigint')} OFFSET {parameters.add(offset, 'bigint')}"


def check_page(limit: int, offset: int) -> None:
    """BadQuery if one is negative or no bigint."""
    for name, value in (("limit", limit), ("offset", offset)):
        if not 0 <= value <= _MOST:
            raise BadQuery(f"{name} is {value}, not between 0 and 2^63 - 1")
