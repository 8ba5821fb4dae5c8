"""How a request is declared: a class whose annotations are its fields.

Parsing and the OpenAPI document read the same class.

    class SetTag(Message):
        run_id: Annotated[str, Rule(alias="run_uuid")]
        key: str
        value: str = ""

A field without a default is required, and an empty text counts as absent there. The annotation gives the type: `str`,
`int` (64 bits; `Int32` for 32), `float`, `bool`, a `Literal` of an enum's names, another message, or a tuple of texts
or messages for a repeated field. `| None` is for a field whose absence means something of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

import msgspec

from runfold_server.core.errors import InvalidParameter

from .fields import Field, Kind, check_known, parse_fields, query_values

M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a field's type leaves open; see `Field`. `name` is its name in requests, where Python can't have it."""

    name: str = ""
    alias: str = ""
    bits: Literal[32, 64] = 64
    least: int | None = None
    most: int | None = None
    unfit: str = ""
    missing: str = ""
    missing_error: type[InvalidParameter] = InvalidParameter
    fallback: Any = None
    storable: bool = True
    about: str = ""


Int32 = Annotated[int, Rule(bits=32)]
AnyText = Annotated[str, Rule(storable=False)]
"""A text that never reaches Postgres, so it may hold NUL: its handler has an error of its own for that."""
NO_RULE = Rule()


class Message(msgspec.Struct, frozen=True):
    """A request, or an object within one."""

    rejects_unknown: ClassVar[bool] = False
    """Whether a name that no field has is an error, because a misspelt field would change what the request does."""

    @classmethod
    def decode_plain(cls, body: bytes) -> Self | None:
        """Return the request if its body has the form that clients send, without checking it field by field.

        None leaves the body to the fields, which accept more forms and name what is wrong.
        """
        return None


class NoFields(Message, frozen=True):
    """A request that has no parameters."""


def parse_message(message: type[M], raw: Mapping[str, Any]) -> M:
    """Return the request of a JSON object. InvalidParameter names the first field that is missing or wrong."""
    fields = fields_of(message)
    parsed = message(**parse_fields(fields, raw))
    if message.rejects_unknown:
        check_known(fields, raw)
    return parsed


def parse_query(message: type[M], query: Iterable[tuple[str, str]]) -> M:
    """Return the request of a query string's pairs. InvalidParameter names the first field that is missing or wrong."""
    fields = fields_of(message)
    return message(**parse_fields(fields, query_values(fields, query)))


@cache
def fields_of(message: type[Message]) -> tuple[Field, ...]:
    """Return the fields of a message, in declared order."""
    return tuple(_field(info) for info in msgspec.structs.fields(message))


def _field(info: msgspec.structs.FieldInfo) -> Field:
    kind, rule, details = _kind(info.type)
    required = info.default is msgspec.NODEFAULT and info.default_factory is msgspec.NODEFAULT
    return Field(
        rule.name or info.name,
        kind,
        required=required,
        default=None if required or kind in (Kind.STRINGS, Kind.OBJECTS) else info.default,
        least=rule.least,
        most=rule.most,
        alias=rule.alias,
        unfit=rule.unfit,
        missing=rule.missing,
        missing_error=rule.missing_error,
        fallback=rule.fallback,
        storable=rule.storable,
        attribute=info.name,
        about=rule.about,
        **details,
    )


def _kind(annotation: Any, rule: Rule = NO_RULE) -> tuple[Kind, Rule, dict[str, Any]]:
    """Return the kind, the rule, and what else the annotation gives: choices, or a nested message's fields."""
    origin = get_origin(annotation)
    if origin is Annotated:
        found = next((one for one in annotation.__metadata__ if isinstance(one, Rule)), rule)
        return _kind(annotation.__origin__, found)
    if origin in (Union, UnionType):
        (inner,) = [one for one in get_args(annotation) if one is not NoneType]
        return _kind(inner, rule)
    if origin is Literal:
        return Kind.CHOICE, rule, {"choices": get_args(annotation)}
    if origin is tuple:
        item, _ = get_args(annotation)
        return (Kind.STRINGS, rule, {}) if item is str else (Kind.OBJECTS, rule, _nested(item))
    if origin is dict:
        return Kind.OBJECT, rule, {}
    if annotation is int:
        return Kind.INT32 if rule.bits == 32 else Kind.INT64, rule, {}
    if annotation in _SCALARS:
        return _SCALARS[annotation], rule, {}
    return Kind.OBJECT, rule, _nested(annotation)


_SCALARS = {str: Kind.STRING, float: Kind.DOUBLE, bool: Kind.BOOL}


def _nested(message: type[Message]) -> dict[str, Any]:
    return {"fields": fields_of(message), "build": message}
