"""Fields of a request: their rules, and the parsing of an object or a query string by them.

The rules are protobuf's JSON mapping as `google.protobuf.json_format` 7 applies it (null is absent, unknown fields are
ignored, whole numbers may come as strings, field names also in camel case) and the checks of `mlflow.server.handlers`
3.17.2. Stricter than MLflow on purpose: a field of a wrong type is always rejected, never read as absent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import Enum
from typing import Any

from runfold_server.core.errors import InvalidParameter

from .field_values import (
    API_DOCS,
    WrongType,
    as_bool,
    as_choice,
    as_double,
    as_list,
    as_object,
    as_string,
    as_whole,
    invalid_value,
    type_name,
)

MOST_OBJECTS = 10_000
"""Items of a list of objects, where its field sets no smaller limit. S3 allows as many parts of an upload."""


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


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request.

    `least` and `most` bound a number or the length of a list. `unfit` is MLflow's message for a value outside of them,
    `missing` its message for a required value that is absent, where that is not the usual one. `choices` are an enum's
    names, numbered from 1. `fallback` replaces a wrong value where a protocol has no error for it. `storable` texts
    hold no NUL. `alias` is a second name for the value. `build` makes the parsed value of an object from its fields;
    without `fields`, an object is kept as it came. `attribute` is the field's name in Python.
    """

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
    missing: str = ""
    missing_error: type[InvalidParameter] = InvalidParameter
    fallback: Any = None
    storable: bool = True
    build: Callable[..., Any] = dict
    attribute: str = ""
    about: str = ""
    """Description of the field in the API's document, where the general one of its name does not fit."""
    camel: str = dataclass_field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "attribute", self.attribute or self.name)
        object.__setattr__(self, "camel", _camel(self.name) if "_" in self.name else "")


def parse_fields(fields: Iterable[Field], raw: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values of an object's fields by attribute; absent optional fields have their default.

    Raises InvalidParameter for the first field, in declared order, that is missing or wrong. `path` is the place of the
    object within the request, as in `metrics[3].`.
    """
    values: dict[str, Any] = {}
    for field in fields:
        value = _find(field, raw)
        if value is None or (value == "" and field.required):
            if field.required:
                raise field.missing_error(field.missing or missing_value(path + field.name))
            values[field.attribute] = () if field.kind in (Kind.STRINGS, Kind.OBJECTS) else field.default
            continue
        where = path + field.name
        try:
            values[field.attribute] = _convert(field, value, where)
        except (WrongType, OverflowError, InvalidParameter) as error:
            if field.fallback is not None:
                values[field.attribute] = field.fallback
            elif isinstance(error, InvalidParameter):
                raise
            else:
                raise _invalid(field, where, value) from None
    return values


def query_values(fields: Iterable[Field], query: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the raw values of a query string. The first of several values counts, but a repeated field gets all."""
    raw: dict[str, Any] = {}
    repeated = {field.name for field in fields if field.kind is Kind.STRINGS}
    for name, value in query:
        if name in repeated:
            raw.setdefault(name, []).append(value)
        else:
            raw.setdefault(name, value)
    return raw


def check_known(fields: Sequence[Field], raw: Mapping[str, Any], path: str = "") -> None:
    """Raise InvalidParameter for a name that no field has."""
    known = {name: field for field in fields for name in (field.name, field.camel) if name}
    for name, value in raw.items():
        field = known.get(name)
        if field is None:
            names = ", ".join(repr(one.name) for one in fields)
            raise InvalidParameter(f"Unknown parameter '{path}{name[:100]}'; there are {names}.")
        if field.kind is Kind.OBJECTS:
            for i, item in enumerate(as_list(value) if value is not None else ()):
                check_known(field.fields, as_object(item), f"{path}{name}[{i}].")


def _find(field: Field, raw: Mapping[str, Any]) -> Any:
    value = raw.get(field.name)
    if field.camel and field.camel in raw:
        if field.name in raw:
            raise InvalidParameter(
                f"Request specifies both '{field.name}' and '{field.camel}'; provide only one of them."
            )
        value = raw[field.camel]
    if value is None and field.alias:
        value = raw.get(field.alias)
    return value


def _convert(field: Field, value: Any, where: str) -> Any:
    match field.kind:
        case Kind.STRING:
            return as_string(value, where, storable=field.storable)
        case Kind.INT64:
            return _bounded(field, as_whole(value), 2**63, where, value)
        case Kind.INT32:
            return _bounded(field, as_whole(value), 2**31, where, value)
        case Kind.DOUBLE:
            return as_double(value)
        case Kind.BOOL:
            return as_bool(value)
        case Kind.CHOICE:
            return as_choice(field.choices, value)
        case Kind.STRINGS:
            return _strings(field, value, where)
        case Kind.OBJECTS:
            items = as_list(value)
            _check_count(field, len(items), where)
            return tuple([_object(field, item, f"{where}[{i}].") for i, item in enumerate(items)])
        case Kind.OBJECT:
            return _object(field, value, f"{where}.")


def _object(field: Field, value: Any, path: str) -> Any:
    given = as_object(value)
    return field.build(**parse_fields(field.fields, given, path)) if field.fields else given


def _strings(field: Field, value: Any, where: str) -> tuple[str, ...]:
    items = tuple([as_string(item, where) for item in as_list(value)])
    if not _within(field, len(items)):
        raise InvalidParameter(field.unfit.format(len(items)) + API_DOCS)
    return items


def _check_count(field: Field, count: int, where: str) -> None:
    """Reject a list that is too long before its items are parsed, which costs twenty times what decoding it did."""
    most = MOST_OBJECTS if field.most is None else field.most
    if count <= most:
        return
    if field.unfit:
        raise InvalidParameter(field.unfit.format(count))
    raise InvalidParameter(f"Parameter '{where}' has {count} items; at most {most} are allowed in one request.")


def _bounded(field: Field, number: int, limit: int, where: str, value: Any) -> int:
    if not -limit <= number < limit:
        raise _invalid(field, where, value)
    if not _within(field, number):
        raise InvalidParameter(field.unfit + API_DOCS) if field.unfit else _invalid(field, where, value)
    return number


def _within(field: Field, number: int) -> bool:
    return (field.least is None or number >= field.least) and (field.most is None or number <= field.most)


def missing_value(where: str) -> str:
    """Return MLflow's message for a required parameter that is absent."""
    return f"Missing value for required parameter '{where}'.{API_DOCS}"


def _invalid(field: Field, where: str, value: Any) -> InvalidParameter:
    hint = f"{invalid_value(where, value)}  Hint: Value was of type '{type_name(value)}'.{API_DOCS}"
    return InvalidParameter(hint + _allowed(field))


def _allowed(field: Field) -> str:
    """Return the allowed values, which MLflow's message leaves out."""
    if field.choices:
        return f" It is one of {', '.join(field.choices)}."
    if field.least is not None and field.most is not None:
        return f" It is a whole number from {field.least} to {field.most}."
    return ""
