"""Reads the operands of clauses, and checks what all search languages limit alike."""

from collections.abc import Iterable, Sized

from runfold_projections.core.errors import BadFilter

from .grammar import ListOperand
from .tokens import Lexeme, Token
from .tree import Key, KeyKind, Operator

MAX_ORDERS = 20
"""Criteria of an order: each may be a join."""
_BIGINT = 2**63
_BIGINT_CHARACTERS = 20


def check_order_count(orders: Sized) -> None:
    """Raise BadFilter for more than `MAX_ORDERS` criteria."""
    if len(orders) > MAX_ORDERS:
        raise BadFilter(f"An order may have {MAX_ORDERS} criteria, this one has {len(orders)}")


def check_pattern(operator: Operator, text: str, error: type[BadFilter] = BadFilter) -> None:
    """Raise `error` if the operator takes patterns and the text ends with an escape character that escapes nothing."""
    if operator in (Operator.LIKE, Operator.ILIKE) and (len(text) - len(text.rstrip("\\"))) % 2:
        raise error(f"The pattern '{text}' must not end with a single backslash")


def quoted_value(key: Key, token: Token, expected: str = "") -> str:
    """Return the text of a quoted value. BadFilter if it isn't quoted; `expected` replaces the message's first part."""
    if token.lexeme is Lexeme.TEXT or (token.lexeme is Lexeme.NAME and token.text[0] == token.text[-1] == '"'):
        return token.text[1:-1]
    if token.lexeme is Lexeme.NAME:
        raise BadFilter(
            "Parameter value is either not quoted or unidentified quote types used for string value "
            f"{token.text}. Use either single or double quotes."
        )
    named = {KeyKind.ATTRIBUTE: "attributes", KeyKind.DATASET: "dataset attributes"}
    what = named.get(key.kind, f"{key.kind} (e.g. 'my-value')")
    raise BadFilter(f"{expected or f'Expected a quoted string value for {what}'}. Got value {token.text}")


def list_values(operand: ListOperand) -> tuple[str, ...]:
    """Return the quoted texts of a list. BadFilter if it is empty or contains anything else."""
    if not operand.items:
        raise BadFilter(
            "While parsing a list in the query, expected a non-empty list of string values, but got empty list"
        )
    for item in operand.items:
        if item.lexeme is not Lexeme.TEXT and not item.text.startswith('"'):
            raise BadFilter(
                "While parsing a list in the query, expected string value, punctuation, or whitespace, "
                f"but got different type in list: {operand.text}"
            )
    return tuple(item.text[1:-1] for item in operand.items)


def parse_number(text: str) -> int | float:
    """Return an int that fits a bigint, or else a float. Postgres compares both with its bigint columns."""
    # Python parses long numbers slowly, and very long ones not at all.
    if text.removeprefix("-").isdigit() and len(text) <= _BIGINT_CHARACTERS and -_BIGINT <= int(text) < _BIGINT:
        return int(text)
    return float(text)


def listed(words: Iterable[str]) -> str:
    """List words as MLflow's messages do."""
    # MLflow prints a set, in any order. Ours is sorted, so a message is always the same.
    return "{" + ", ".join(f"'{word}'" for word in sorted(words)) + "}"
