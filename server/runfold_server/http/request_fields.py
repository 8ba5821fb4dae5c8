"""What a request holds: declared fields, parsed strictly, refused in MLflow's words.

The rules are protobuf's JSON mapping as `google.protobuf.json_format` 7 applies it (null is absent, unknown fields are
ignored, whole numbers may come as strings, field names also in camel case) and the checks of `mlflow.server.handlers`
3.17.2. Stricter than MLflow on purpose: a field of a wrong type is always refused, never read as absent.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from runfold_server.core.errors import BadBody, InvalidParameter

from .large_json import refuse_many

Args = dict[str, Any]
"""Field name -> parsed value; absent optional fields have their default."""

_API_DOCS = " See the API docs for more information about request parameters."
_MAX_DIGITS = 400
MOST_OBJECTS = 10_000
"""Items of a list of objects, where its field does not say fewer; S3 has as many parts of an upload."""


class Kind(Enum):
    """Types of fields, after protobuf's."""

    STRING = "string"
    INT32 = "int32"
    INT64 = "int64"
    DOUBLE = "double"
    BOOL = "bool"
    CHOICE = "enum"
    STRINGS = "repeated string"
    OBJECTS = "repeated message"
    OBJECT = "message"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request. `least` and `most` bound a number or the length of a list, `unfit` is what MLflow says of one beyond
    them; `choices` are an enum's names, numbered from 1; `alias` is another name under which the value may come."""

    name: str
    kind: Kind = Kind.STRING
    required: bool = False
    default: Any = None
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()
    fields: tuple["Field", ...] = ()
    alias: str = ""
    unfit: str = ""


class _WrongType(Exception):
    pass


def read_json(body: bytes, content_type: str | None) -> dict[str, Any]:
    """The JSON object of a body; an empty body is an empty object. BadBody says what is wrong with it, TooLarge that there is too much."""
    check_content_type(content_type)
    if not body.strip():
        return {}
    try:
        value = _decoded(body)
        # Older MLflow clients encode their JSON twice.
        if isinstance(value, str):
            value = _decoded(value.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise BadBody(f"The request body is not valid JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadBody(f"The request body must be a JSON object, not {_type_name(value)}.")
    return value


def _decoded(body: bytes) -> Any:
    refuse_many(body)
    return msgspec.json.decode(body)


def check_content_type(content_type: str | None) -> None:
    """MLflow takes `application/json` only, with any parameters."""
    if content_type is None:
        raise InvalidParameter("Bad Request. Content-Type header is missing.")
    if content_type.split(";")[0].strip().lower() != "application/json":
        raise InvalidParameter("Bad Request. Content-Type must be one of ['application/json'].")


def parse_json(fields: Sequence[Field], raw: Mapping[str, Any], path: str = "") -> Args:
    """Parse an object's fields. InvalidParameter for the first field, in declared order, that is missing or wrong."""
    args: Args = {}
    for field in fields:
        where = path + field.name
        value = _find(field, raw)
        if value is None or (value == "" and field.required):
            if field.required:
                raise _missing(where)
            args[field.name] = [] if field.kind in (Kind.STRINGS, Kind.OBJECTS) else field.default
            continue
        try:
            args[field.name] = _convert(field, value, where)
        except (_WrongType, OverflowError):
            raise _invalid(field, where, value) from None
    return args


def check_known(fields: Sequence[Field], raw: Mapping[str, Any], path: str = "") -> None:
    """InvalidParameter for a name that no field has: for requests in which a misspelt field that were passed over would change what is done."""
    known = {name: field for field in fields for name in (field.name, _camel(field.name))}
    for name, value in raw.items():
        field = known.get(name)
        if field is None:
            names = ", ".join(repr(one.name) for one in fields)
            raise InvalidParameter(f"Unknown parameter '{path}{name[:100]}'; there are {names}.")
        if field.kind is Kind.OBJECTS:
            for i, item in enumerate(_list(value) if value is not None else ()):
                check_known(field.fields, _object(item), f"{path}{name}[{i}].")


def parse_query(fields: Sequence[Field], query: Sequence[tuple[str, str]]) -> Args:
    """Parse a query string's pairs: of a single field the first counts, a repeated one takes all."""
    raw: dict[str, Any] = {}
    repeated = {field.name for field in fields if field.kind is Kind.STRINGS}
    for name, value in query:
        if name in repeated:
            raw.setdefault(name, []).append(value)
        else:
            raw.setdefault(name, value)
    return parse_json(fields, raw)


def _find(field: Field, raw: Mapping[str, Any]) -> Any:
    value = raw.get(field.name)
    if "_" in field.name and (camel := _camel(field.name)) in raw:
        if field.name in raw:
            raise InvalidParameter(f"Request specifies both '{field.name}' and '{camel}'; provide only one of them.")
        value = raw[camel]
    if value is None and field.alias:
        value = raw.get(field.alias)
    return value


def _convert(field: Field, value: Any, where: str) -> Any:
    match field.kind:
        case Kind.STRING:
            return _string(value, where)
        case Kind.INT64:
            return _bounded(field, _whole(value), 2**63, where, value)
        case Kind.INT32:
            return _bounded(field, _whole(value), 2**31, where, value)
        case Kind.DOUBLE:
            return _double(value)
        case Kind.BOOL:
            return _bool(value)
        case Kind.CHOICE:
            return _choice(field, value)
        case Kind.STRINGS:
            return _strings(field, value, where)
        case Kind.OBJECTS:
            items = _list(value)
            _check_count(field, len(items), where)
            return [parse_json(field.fields, _object(item), f"{where}[{i}].") for i, item in enumerate(items)]
        case Kind.OBJECT:
            return parse_json(field.fields, _object(value), f"{where}.")


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _WrongType
    if "\x00" in value:
        raise InvalidParameter(f"Invalid value for parameter '{where}' supplied: NUL characters can't be stored.")
    return value


def _strings(field: Field, value: Any, where: str) -> list[str]:
    items = [_string(item, where) for item in _list(value)]
    if not _within(field, len(items)):
        raise InvalidParameter(field.unfit.format(len(items)) + _API_DOCS)
    return items


def _check_count(field: Field, count: int, where: str) -> None:
    """Refuse a list that no request has, before its items are parsed: parsing costs twenty times what decoding does."""
    most = MOST_OBJECTS if field.most is None else field.most
    if count <= most:
        return
    if field.unfit:
        raise InvalidParameter(field.unfit.format(count))
    raise InvalidParameter(f"Parameter '{where}' has {count} items; at most {most} are taken in one request.")


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise _WrongType
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        raise _WrongType
    if not isinstance(value, str) or len(value) > _MAX_DIGITS or value != value.strip() or "_" in value:
        raise _WrongType
    try:
        return int(value)
    except ValueError:
        number = _double(value)
        if not number.is_integer():
            raise _WrongType from None
        return int(number)


def _bounded(field: Field, number: int, limit: int, where: str, value: Any) -> int:
    if not -limit <= number < limit:
        raise _invalid(field, where, value)
    if not _within(field, number):
        raise InvalidParameter(field.unfit + _API_DOCS) if field.unfit else _invalid(field, where, value)
    return number


def _within(field: Field, number: int) -> bool:
    return (field.least is None or number >= field.least) and (field.most is None or number <= field.most)


def _double(value: Any) -> float:
    if not isinstance(value, int | float | str):
        raise _WrongType
    if isinstance(value, str) and (len(value) > _MAX_DIGITS or "_" in value):
        raise _WrongType
    try:
        return float(value)
    except ValueError:
        raise _WrongType from None


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongType
    return value


def _choice(field: Field, value: Any) -> str | None:
    if isinstance(value, str):
        if value in field.choices:
            return value
        if not value.lstrip("-").isdecimal():
            raise _WrongType
    number = _whole(value)
    if not 1 <= number <= len(field.choices):
        raise _WrongType
    return field.choices[number - 1]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _WrongType
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongType
    return value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _type_name(value: Any) -> str:
    return type(value).__name__


def _missing(where: str) -> InvalidParameter:
    return InvalidParameter(f"Missing value for required parameter '{where}'.{_API_DOCS}")


def _invalid(field: Field, where: str, value: Any) -> InvalidParameter:
    hint = f"{invalid_value(where, value)}  Hint: Value was of type '{_type_name(value)}'.{_API_DOCS}"
    return InvalidParameter(hint + _taken(field))


def _taken(field: Field) -> str:
    """What MLflow's words leave out."""
    if field.choices:
        return f" It is one of {', '.join(field.choices)}."
    if field.least is not None and field.most is not None:
        return f" It is a whole number from {field.least} to {field.most}."
    return ""


def invalid_value(where: str, value: Any) -> str:
    """MLflow's words for a value that it does not take, up to the colon."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    if len(shown) > 1000:
        shown = shown[:1000] + "…"
    return f"Invalid value {shown} for parameter '{where}' supplied:"
