"""Conversions of single values from JSON or a query string, after protobuf's JSON mapping."""

import json
from collections.abc import Sequence
from typing import Any

from runfold_server.core.errors import InvalidParameter

API_DOCS = " See the API docs for more information about request parameters."
_MOST_DIGITS = 400
"""Characters of a number in a string. Long ones cost quadratic time."""
_MOST_SHOWN = 1_000
"""Characters of a value that an error message repeats."""


class WrongType(Exception):
    """The value is not of the field's type."""


def as_string(value: Any, where: str, *, storable: bool = True) -> str:
    """Return a string; if it must be storable in Postgres, InvalidParameter names `where` if it holds NUL."""
    if not isinstance(value, str):
        raise WrongType
    if storable and "\x00" in value:
        raise InvalidParameter(f"Invalid value for parameter '{where}' supplied: NUL characters can't be stored.")
    return value


def as_whole(value: Any) -> int:
    """Return a whole number, given as a number or in a string."""
    if isinstance(value, bool):
        raise WrongType
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        raise WrongType
    if not isinstance(value, str) or len(value) > _MOST_DIGITS or value != value.strip() or "_" in value:
        raise WrongType
    try:
        return int(value)
    except ValueError:
        number = as_double(value)
        if not number.is_integer():
            raise WrongType from None
        return int(number)


def as_double(value: Any) -> float:
    """Return a double, given as a number or in a string."""
    if not isinstance(value, int | float | str):
        raise WrongType
    if isinstance(value, str) and (len(value) > _MOST_DIGITS or "_" in value):
        raise WrongType
    try:
        return float(value)
    except ValueError:
        raise WrongType from None


def as_bool(value: Any) -> bool:
    """Return one of JSON's two truth values."""
    if not isinstance(value, bool):
        raise WrongType
    return value


def as_choice(choices: Sequence[str], value: Any) -> str:
    """Return an enum's name, given as itself or as its number from 1."""
    if isinstance(value, str):
        if value in choices:
            return value
        if not value.lstrip("-").isdecimal():
            raise WrongType
    number = as_whole(value)
    if not 1 <= number <= len(choices):
        raise WrongType
    return choices[number - 1]


def as_list(value: Any) -> list[Any]:
    """Return a list as it is."""
    if not isinstance(value, list):
        raise WrongType
    return value


def as_object(value: Any) -> dict[str, Any]:
    """Return an object as it is."""
    if not isinstance(value, dict):
        raise WrongType
    return value


def type_name(value: Any) -> str:
    """Return the name of a value's type, as MLflow's messages have it."""
    return type(value).__name__


def invalid_value(where: str, value: Any) -> str:
    """Return MLflow's words for a value that it rejects, up to the colon."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    if len(shown) > _MOST_SHOWN:
        shown = shown[:_MOST_SHOWN] + "…"
    return f"Invalid value {shown} for parameter '{where}' supplied:"
