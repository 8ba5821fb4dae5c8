"""Arrow's IPC stream (Arrow columnar format 1.5, metadata version 5), as far as points need it: written here, since
pyarrow is 150 MB.

A message is a FlatBuffer (schema, dictionary or record batch, after Arrow's `Message.fbs` and `Schema.fbs`) and a body
of buffers, each padded to eight bytes. Columns have no nulls. Texts are dictionaries of their own, sent before the
batches.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
MOST_TEXTS = 2**15
"""Distinct texts of a column: its indexes have 16 bits."""

_V5 = 4
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_INT, _FLOAT, _UTF8, _TIMESTAMP = 2, 3, 5, 10
_DOUBLE, _MILLISECOND = 2, 1


class Type(Enum):
    """Types of columns. TEXT is a dictionary, whose batches have indexes."""

    TEXT = np.dtype("<i2")
    INT32 = np.dtype("<i4")
    INT64 = np.dtype("<i8")
    TIME = "time"
    DOUBLE = np.dtype("<f8")

    @property
    def dtype(self) -> Any:
        """What its values in a batch are."""
        return np.dtype("<i8") if self is Type.TIME else self.value


@dataclass(frozen=True, slots=True)
class Column:
    """A column without nulls."""

    name: str
    type: Type


def schema(columns: Sequence[Column], metadata: Mapping[str, str]) -> bytes:
    """The first message of a stream."""
    fields = [_field(column, n) for n, column in enumerate(columns)]
    pairs = [_table([_child(_text(key)), _child(_text(value))]) for key, value in metadata.items()]
    return _message(_SCHEMA, _table([None, _child(_vector(fields)), _child(_vector(pairs))]), [])


def dictionary(column: int, texts: Sequence[str]) -> bytes:
    """The texts of a TEXT column (its number in the schema): index 0, 1, …"""
    data = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, data)]).astype("<i4")
    body = [b"", ends.tobytes(), b"".join(data)]
    batch = _record_batch(len(data), 1, body)
    return _message(_DICTIONARY, _table([_scalar("q", column), _child(batch)]), body)


def batch(columns: Sequence[Column], values: Sequence[Any]) -> bytes:
    """Rows: a NumPy array per column, all of one length."""
    body: list[bytes | memoryview] = []
    for column, array in zip(columns, values, strict=True):
        body += (b"", np.ascontiguousarray(array, column.type.dtype).data.cast("B"))
    return _message(_BATCH, _record_batch(len(values[0]), len(columns), body), body)


_Writer = Callable[[bytearray], int]
"""Appends an object to the buffer and answers where it begins."""
_Slot = tuple[str, Any] | None


def _scalar(kind: str, value: int) -> _Slot:
    return kind, value


def _child(writer: _Writer) -> _Slot:
    return "I", writer


def _field(column: Column, number: int) -> _Writer:
    match column.type:
        case Type.TEXT:
            kind, details = _UTF8, _table([])
        case Type.INT32 | Type.INT64:
            kind, details = _INT, _integer(8 * column.type.dtype.itemsize)
        case Type.TIME:
            kind, details = _TIMESTAMP, _table([_scalar("h", _MILLISECOND), _child(_text("UTC"))])
        case Type.DOUBLE:
            kind, details = _FLOAT, _table([_scalar("h", _DOUBLE)])
    coded = _table([_scalar("q", number), _child(_integer(16))]) if column.type is Type.TEXT else None
    return _table(
        [
            _child(_text(column.name)),
            _scalar("B", 0),
            _scalar("B", kind),
            _child(details),
            None if coded is None else _child(coded),
            _child(_vector([])),
        ]
    )


def _integer(bits: int) -> _Writer:
    return _table([_scalar("i", bits), _scalar("B", 1)])


def _record_batch(rows: int, columns: int, body: Sequence[bytes | memoryview]) -> _Writer:
    nodes = struct.pack("<qq", rows, 0) * columns
    places, at = [], 0
    for part in body:
        places.append(struct.pack("<qq", at, len(part)))
        at += _padded(len(part))
    return _table([_scalar("q", rows), _child(_structs(columns, nodes)), _child(_structs(len(body), b"".join(places)))])


def _message(kind: int, header: _Writer, body: Sequence[bytes | memoryview]) -> bytes:
    size = sum(_padded(len(part)) for part in body)
    out = bytearray(4)
    root = _table([_scalar("h", _V5), _scalar("B", kind), _child(header), _scalar("q", size)])(out)
    struct.pack_into("<I", out, 0, root)
    _align(out, 8)
    parts: list[bytes | memoryview] = [struct.pack("<Ii", 0xFFFFFFFF, len(out)), bytes(out)]
    for part in body:
        parts += (part, bytes(_padded(len(part)) - len(part)))
    return b"".join(parts)


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def _align(out: bytearray, to: int, plus: int = 0) -> None:
    out += bytes(-(len(out) + plus) % to)


def _table(slots: Sequence[_Slot]) -> _Writer:
    """A FlatBuffers table: a v-table with the offset of each field, the fields, then what they refer to."""

    def write(out: bytearray) -> int:
        places, size = [0] * len(slots), 4
        for width in (8, 4, 2, 1):
            for n, slot in enumerate(slots):
                if slot is not None and struct.calcsize(slot[0]) == width:
                    size = -(-size // width) * width
                    places[n] = size
                    size += width
        _align(out, 2)
        index = len(out)
        out += struct.pack(f"<HH{len(slots)}H", 4 + 2 * len(slots), size, *places)
        _align(out, 8)
        start = len(out)
        out += struct.pack("<i", start - index) + bytes(size - 4)
        for place, slot in zip(places, slots, strict=True):
            if slot is not None and slot[0] != "I":
                struct.pack_into(f"<{slot[0]}", out, start + place, slot[1])
        for place, slot in zip(places, slots, strict=True):
            if slot is not None and slot[0] == "I":
                target = slot[1](out)
                struct.pack_into("<I", out, start + place, target - start - place)
        return start

    return write


def _vector(items: Sequence[_Writer]) -> _Writer:
    def write(out: bytearray) -> int:
        _align(out, 4)
        start = len(out)
        out += struct.pack("<I", len(items)) + bytes(4 * len(items))
        for n, item in enumerate(items):
            place = start + 4 + 4 * n
            struct.pack_into("<I", out, place, item(out) - place)
        return start

    return write


def _structs(count: int, data: bytes) -> _Writer:
    def write(out: bytearray) -> int:
        _align(out, 8, 4)
        start = len(out)
        out += struct.pack("<I", count) + data
        return start

    return write


def _text(text: str) -> _Writer:
    def write(out: bytearray) -> int:
        _align(out, 4)
        start = len(out)
        data = text.encode()
        out += struct.pack("<I", len(data)) + data + b"\0"
        return start

    return write
