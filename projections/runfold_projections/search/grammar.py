"""Finding the clauses of an expression, by recursive descent.

    filter  = { "AND" | clause }
    clause  = operand comparator operand | operand membership list | operand presence
    operand = name | number | text | list
    list    = "(" [ item { "," item } [ "," ] ] ")"
    order   = name [ word ]

As MLflow's parser, this one also accepts clauses without an AND between them, and more than one AND. A vocabulary gives
the names of a clause their meaning.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from runfold_projections.core.errors import BadFilter

from .tokens import Lexeme, Token, tokenize

MAX_CLAUSES = 100
"""Clauses of a filter: each costs a look-up per run, and the planner's time grows faster than their number."""

_OPERANDS = frozenset({Lexeme.NAME, Lexeme.NUMBER, Lexeme.TEXT})


@dataclass(frozen=True, slots=True)
class ListOperand:
    """A parenthesised list, as it was written."""

    items: tuple[Token, ...]

    @property
    def text(self) -> str:
        return f"({', '.join(item.text for item in self.items)})"


@dataclass(frozen=True, slots=True)
class RawClause:
    """A well-formed clause. `operator` is in upper case with single blanks; `right` is None for a presence test."""

    left: Token | ListOperand
    operator: str
    right: Token | ListOperand | None


class _Cursor:
    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = list(tokens)
        self._at = 0

    def more(self) -> bool:
        return self._at < len(self._tokens)

    def accept(self, *lexemes: Lexeme) -> Token | None:
        """Consume and return the next token if it is one of these."""
        if self.more() and self._tokens[self._at].lexeme in lexemes:
            self._at += 1
            return self._tokens[self._at - 1]
        return None

    def any(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def mark(self) -> int:
        return self._at

    def back(self, mark: int) -> None:
        self._at = mark


def parse_clauses(text: str, *, quoted: bool = True) -> list[RawClause]:
    """Return the clauses of a filter in their order. BadFilter lists all text outside of clauses, as MLflow does.

    It is `quoted` in searches of runs, and not in others.
    """
    clauses, strays = read_clauses(text)
    if strays:
        raise BadFilter(
            f"Invalid clause(s) in filter string: {', '.join(map(repr_plain, strays) if quoted else strays)}"
        )
    return clauses


def read_clauses(text: str) -> tuple[list[RawClause], list[str]]:
    """Return the clauses of a filter in their order, and the text outside of clauses.

    BadFilter for too many clauses.
    """
    cursor = _Cursor(tokenize(text))
    clauses: list[RawClause] = []
    strays: list[str] = []
    while cursor.more():
        if cursor.accept(Lexeme.AND):
            continue
        clause = _clause(cursor)
        if clause is None:
            strays.append(cursor.any().text)
        else:
            clauses.append(clause)
    if len(clauses) > MAX_CLAUSES:
        raise BadFilter(f"A filter may have {MAX_CLAUSES} clauses, this one has {len(clauses)}")
    return clauses, strays


def repr_plain(text: str) -> str:
    """The text in quotes, its own quotes as they are: MLflow's messages show tokens so."""
    return f"'{text}'"


def parse_order(text: str) -> tuple[Token, bool]:
    """The name that an order-by expression begins with, and whether it ascends."""
    cursor = _Cursor(tokenize(text))
    name = cursor.accept(Lexeme.NAME)
    direction = cursor.any() if name is not None and cursor.more() else None
    if name is None or cursor.more() or (direction is not None and direction.lexeme is not Lexeme.NAME):
        raise BadFilter(f"Invalid order_by clause '{text}'. Could not be parsed.")
    if direction is not None and direction.text.upper() not in ("ASC", "DESC"):
        raise BadFilter(f"Invalid ordering key in order_by clause '{text}'.")
    return name, direction is None or direction.text.upper() == "ASC"


def _clause(cursor: _Cursor) -> RawClause | None:
    start = cursor.mark()
    left = _operand(cursor)
    if left is not None:
        if presence := cursor.accept(Lexeme.PRESENCE):
            return RawClause(left, _normal(presence), None)
        if membership := cursor.accept(Lexeme.MEMBERSHIP):
            values = _list(cursor)
            if values is not None:
                return RawClause(left, _normal(membership), values)
        elif comparator := cursor.accept(Lexeme.COMPARATOR):
            right = _operand(cursor)
            if right is not None:
                return RawClause(left, _normal(comparator), right)
    cursor.back(start)
    return None


def _operand(cursor: _Cursor) -> Token | ListOperand | None:
    return cursor.accept(*_OPERANDS) or _list(cursor)


def _list(cursor: _Cursor) -> ListOperand | None:
    start = cursor.mark()
    if cursor.accept(Lexeme.OPEN):
        items: list[Token] = []
        while item := cursor.accept(*_OPERANDS):
            items.append(item)
            if not cursor.accept(Lexeme.COMMA):
                break
        if cursor.accept(Lexeme.CLOSE):
            return ListOperand(tuple(items))
    cursor.back(start)
    return None


def _normal(token: Token) -> str:
    return " ".join(token.text.upper().split())
