"""Events on their way over HTTP: ready records, which the API checks and passes on without re-encoding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import fastavro

from runfold_schemas.errors import BadRecord, Reason
from runfold_schemas.positions.topics import Topic

from .envelope import MAX_HEADERS
from .varint import VarintError, decode_long, encode_long
from .wire import MAX_VALUE_BYTES

_T = TypeVar("_T")

CONTENT_TYPE = "application/vnd.runfold.events+avro"
MAX_BATCH_BYTES = MAX_VALUE_BYTES + 256 * 1024
"""Largest body of a request that appends records, in bytes: a record of the largest size, and its headers."""
MAX_BATCH_RECORDS = 10_000

BATCH_SCHEMA: Any = fastavro.parse_schema(
    {
        "type": "array",
        "items": {
            "type": "record",
            "name": "runfold.http.Outgoing",
            "fields": [
                {"name": "topic", "type": "string"},
                {"name": "key", "type": "bytes"},
                {"name": "value", "type": "bytes"},
                {
                    "name": "headers",
                    "type": {
                        "type": "array",
                        "items": {
                            "type": "record",
                            "name": "Header",
                            "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": "bytes"}],
                        },
                    },
                },
            ],
        },
    }
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record that is ready to be appended."""

    topic: Topic
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


def encode_batch(records: Sequence[Outgoing]) -> bytes:
    """Body of a request that appends these records in order."""
    return join_items([encode_item(record) for record in records])


def encode_item(record: Outgoing) -> bytes:
    """One record as it stands in a batch: it can be kept, and put into a body later without re-encoding."""
    parts = [_sized(record.topic.value.encode()), _sized(record.key), _sized(record.value)]
    if record.headers:
        parts.append(encode_long(len(record.headers)))
        for name, value in record.headers:
            parts += (_sized(name.encode()), _sized(value))
    parts.append(b"\x00")
    return b"".join(parts)


def join_items(items: Sequence[bytes]) -> bytes:
    """Body of a request of items that `encode_item` made."""
    return b"".join((encode_long(len(items)), *items, b"\x00")) if items else b"\x00"


def decode_item(item: bytes) -> Outgoing:
    """What `encode_item` was given; BadRecord if these bytes are not one record."""
    try:
        record, at = _outgoing(item, 0)
    except VarintError as error:
        raise BadRecord(Reason.BODY, f"the record does not decode: {error}") from None
    if at != len(item):
        raise BadRecord(Reason.TRAILING_BYTES, f"{len(item) - at} bytes follow the record")
    return record


def _sized(data: bytes) -> bytes:
    return encode_long(len(data)) + data


def decode_batch(body: bytes) -> list[Outgoing]:
    """Records of a request body; BadRecord names what is wrong with it."""
    if len(body) > MAX_BATCH_BYTES:
        raise BadRecord(Reason.TOO_LARGE, f"a batch of {len(body)} bytes; at most {MAX_BATCH_BYTES} are taken")
    try:
        records, at = _array(body, 0, "records in a batch", MAX_BATCH_RECORDS, _outgoing)
    except VarintError as error:
        raise BadRecord(Reason.BODY, f"the batch does not decode: {error}") from None
    if at != len(body):
        raise BadRecord(Reason.TRAILING_BYTES, f"{len(body) - at} bytes follow the batch")
    return records


# Read by hand: fastavro would build all that a body claims (a gigabyte for 8 MB of empty headers) before it is counted.
def _array(
    body: bytes, at: int, what: str, most: int, read: Callable[[bytes, int], tuple[_T, int]]
) -> tuple[list[_T], int]:
    items: list[_T] = []
    while True:
        count, at = decode_long(body, at)
        if count < 0:
            count = -count
            _, at = decode_long(body, at)
        if not count:
            return items, at
        if len(items) + count > most:
            raise BadRecord(Reason.TOO_LARGE, f"{len(items) + count} {what}; at most {most} are taken")
        for _ in range(count):
            item, at = read(body, at)
            items.append(item)


def _outgoing(body: bytes, at: int) -> tuple[Outgoing, int]:
    name, at = _text(body, at)
    key, at = _bytes(body, at)
    value, at = _bytes(body, at)
    headers, at = _array(body, at, "headers of a record", MAX_HEADERS, _header)
    try:
        topic = Topic(name)
    except ValueError:
        raise BadRecord(Reason.TYPE_NOT_ALLOWED, f"topic {name!r}: one of {', '.join(Topic)}") from None
    return Outgoing(topic, key, value, headers), at


def _header(body: bytes, at: int) -> tuple[tuple[str, bytes], int]:
    name, at = _text(body, at)
    value, at = _bytes(body, at)
    return (name, value), at


def _text(body: bytes, at: int) -> tuple[str, int]:
    data, at = _bytes(body, at)
    try:
        return data.decode(), at
    except UnicodeDecodeError:
        raise BadRecord(Reason.BODY, "the batch does not decode: a string is not UTF-8") from None


def _bytes(body: bytes, at: int) -> tuple[bytes, int]:
    size, at = decode_long(body, at)
    if size < 0 or size > len(body) - at:
        raise BadRecord(Reason.BODY, f"the batch does not decode: {size} bytes where {len(body) - at} are left")
    return body[at : at + size], at + size
