"""Value of a record: the Confluent wire format (0x00, schema id as four bytes big-endian, Avro body)."""

import io
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import fastavro
from pydantic import ValidationError

from runfold_schemas.errors import BadEvent, BadRecord, Reason
from runfold_schemas.events.all_events import FACTS, Event
from runfold_schemas.events.base import Fact
from runfold_schemas.events.metrics import MetricsLogged

from . import metrics
from .catalog import FEATURE_LEVEL, Catalog, Released, released_catalog
from .upcast import upcast

MAX_REQUEST_BODY_BYTES = 8 * 1024 * 1024
"""Largest body of an API request, in bytes.

Whatever it asks for becomes one record, which readers see whole or not at all.
"""

MAX_VALUE_BYTES = MAX_REQUEST_BODY_BYTES + 256 * 1024
"""Largest value of a record, in bytes, before compression: what a request holds, and the fields that a server adds."""

MAX_METRICS_BYTES = 1024 * 1024
"""Largest value of a metrics record, in bytes.

Writers split frames far below it, and arrays cost more to read than texts.
"""

_HEADER = struct.Struct(">bI")
FRAME_BYTES = _HEADER.size
"""Of a value's bytes those that say the schema of the rest."""


def encode(event: Event, level: int = FEATURE_LEVEL, catalog: Catalog | None = None) -> bytes:
    """The record's value, in the schema version that the feature level allows. BadEvent if it is too large."""
    schema = (catalog or released_catalog()).to_write(event.subject, level)
    if isinstance(event, MetricsLogged):
        body = metrics.encode(event)
    else:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema.parsed, event.model_dump(by_alias=True))
        body = out.getvalue()
    if len(body) + _HEADER.size > _most_bytes(event.subject):
        raise BadEvent(_too_large(event, len(body)))
    return _HEADER.pack(0, schema.schema_id) + body


def _most_bytes(subject: str) -> int:
    return MAX_METRICS_BYTES if subject == MetricsLogged.subject else MAX_VALUE_BYTES


def _too_large(event: Event, size: int) -> str:
    """Name the longest text in the caller's words: callers know their fields, not our events."""
    limit = f"{size} bytes are more than one request may hold ({_most_bytes(event.subject)})"
    if isinstance(event, MetricsLogged):
        return f"{limit}; log the points in several requests"
    field, length = max(_texts(event.model_dump(by_alias=True)), key=lambda text: text[1])
    return f"{limit}; shorten {field}, which has {length} characters, or send the values in several requests"


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the path and the length of each text in a document."""
    if isinstance(value, str):
        yield path, len(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]")


def schema_id_of(value: bytes | None) -> int:
    """Schema id of a framed value; BadRecord if the value is no Confluent frame or too large."""
    if value is None or len(value) < _HEADER.size:
        raise BadRecord(Reason.FRAMING, "the value is shorter than the five bytes of a Confluent frame")
    if len(value) > MAX_VALUE_BYTES:
        raise BadRecord(Reason.TOO_LARGE, f"the value has {len(value)} bytes, at most {MAX_VALUE_BYTES} are read")
    magic, schema_id = _HEADER.unpack_from(value)
    if magic != 0:
        raise BadRecord(Reason.FRAMING, f"the value begins with byte {magic}, not with 0")
    return int(schema_id)


def decode(value: bytes | None, catalog: Catalog | None = None) -> Event:
    """The event in its newest version.

    BadRecord if it can't be read, UndeclaredSchema if its id is not in the catalog.
    """
    catalog = catalog or released_catalog()
    return decode_as(value, catalog.get(schema_id_of(value)), catalog)


def decode_as(value: bytes | None, schema: Released, catalog: Catalog) -> Event:
    """`decode`, of a value whose schema was looked up by its id."""
    assert value is not None
    if len(value) > (most := _most_bytes(schema.subject)):
        raise BadRecord(Reason.TOO_LARGE, f"the value has {len(value)} bytes, at most {most} are read")
    return decode_body(value[_HEADER.size :], schema, catalog)


def decode_body(body: bytes, schema: Released, catalog: Catalog) -> Event:
    """The event of an Avro body written with `schema`."""
    if schema.subject == MetricsLogged.subject and schema.version == 1:
        return metrics.decode(body)
    newest = catalog.newest(schema.subject)
    fields = _read(body, schema, newest)
    if newest is not schema:
        # A step may need what a newer version has dropped, so it sees the fields as written too.
        fields = upcast(schema, {**_read(body, schema, schema), **fields})
    event_class = FACTS[schema.subject]
    try:
        return _build(event_class, fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRecord(Reason.ABSURD, f"{schema.subject}: {where}: {first['msg']}") from None


def _build(event_class: type[Fact], fields: dict[str, Any]) -> Fact:
    known = _known(event_class)
    if not known.issuperset(fields):
        fields = {name: value for name, value in fields.items() if name in known}
    return event_class.model_validate(fields)


@lru_cache(maxsize=256)
def _known(event_class: type[Fact]) -> frozenset[str]:
    return frozenset(info.alias or name for name, info in event_class.model_fields.items())


def _read(body: bytes, schema: Released, newest: Released) -> dict[str, Any]:
    source = io.BytesIO(body)
    reader = None if newest is schema else newest.parsed
    try:
        fields: Any = fastavro.schemaless_reader(source, schema.parsed, reader)
    # fastavro raises whatever the broken bytes lead it to: IndexError, EOFError, UnicodeDecodeError, OverflowError…
    except Exception as error:
        raise BadRecord(Reason.BODY, f"{schema.subject} v{schema.version}: {type(error).__name__}: {error}") from None
    if source.tell() != len(body):
        raise BadRecord(Reason.TRAILING_BYTES, f"{len(body) - source.tell()} bytes follow the event")
    assert isinstance(fields, dict)
    return fields
