"""Cutting a search expression into tokens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from runfold_projections.core.errors import BadFilter

MAX_CHARACTERS = 256 * 1024
"""Longest expression: room for an IN list of 7,000 run ids."""


class Lexeme(Enum):
    """Kinds of tokens. STRAY is a character that begins nothing."""

    NAME = auto()
    NUMBER = auto()
    TEXT = auto()
    COMPARATOR = auto()
    PRESENCE = auto()
    MEMBERSHIP = auto()
    AND = auto()
    OPEN = auto()
    CLOSE = auto()
    COMMA = auto()
    STRAY = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an expression, as it was written."""

    lexeme: Lexeme
    text: str


# A name is a path of words and quoted parts without white space: metrics.loss, params."a b", tags.`mlflow.user`.
# Within quotes a doubled quote (and a backslash before the quote) does not end the text, as in MLflow's lexer.
_WORD = r"\w+"
_SINGLE = r"'(?:''|\\'|[^'])*'"
_DOUBLE = r'"(?:""|\\"|[^"])*"'
_BACKTICK = r"`(?:``|[^`])*`"
_KEYWORD_END = r"(?![\w.])"

_PATTERNS: tuple[tuple[Lexeme | None, str], ...] = (
    (None, r"\s+"),
    (Lexeme.NUMBER, r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.])"),
    (Lexeme.TEXT, _SINGLE),
    (Lexeme.COMPARATOR, r"[<>=!~]+|(?i:(?:NOT\s+)?[IR]?LIKE)" + _KEYWORD_END),
    (Lexeme.PRESENCE, r"(?i:IS\s+(?:NOT\s+)?NULL)" + _KEYWORD_END),
    (Lexeme.MEMBERSHIP, r"(?i:(?:NOT\s+)?IN)" + _KEYWORD_END),
    (Lexeme.AND, r"(?i:AND)" + _KEYWORD_END),
    (Lexeme.NAME, rf"(?:{_WORD}|{_DOUBLE}|{_BACKTICK})(?:\.(?:{_WORD}|{_DOUBLE}|{_BACKTICK}|{_SINGLE}))*"),
    (Lexeme.OPEN, r"\("),
    (Lexeme.CLOSE, r"\)"),
    (Lexeme.COMMA, r","),
    (Lexeme.STRAY, r"[\s\S]"),
)
_SCANNER = re.compile("|".join(f"({pattern})" for _, pattern in _PATTERNS))
_LEXEMES = tuple(lexeme for lexeme, _ in _PATTERNS)


def tokenize(text: str) -> Iterator[Token]:
    """The tokens of an expression. BadFilter if it is too long or holds what no stored text can hold."""
    if len(text) > MAX_CHARACTERS:
        raise BadFilter(f"The expression is longer than {MAX_CHARACTERS} characters")
    if not storable(text):
        raise BadFilter(f"The expression {text!r} holds a character that can't be stored")
    for match in _SCANNER.finditer(text):
        assert match.lastindex is not None
        lexeme = _LEXEMES[match.lastindex - 1]
        if lexeme is not None:
            yield Token(lexeme, match.group())


def storable(text: str) -> bool:
    """Report whether Postgres can store the text: no zero byte, no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def unquoted(text: str) -> str:
    """Strip one pair of single or double quotes, then one of backticks. Nothing is unescaped, as in MLflow."""
    for quotes in ("'\"", "`"):
        if len(text) >= 2 and text[0] == text[-1] and text[0] in quotes:
            text = text[1:-1]
    return text
