"""Body of `MetricsLogged` v1, written and read without a model in between; fastavro is the reference it must agree with.

A key list is written as one sized Avro block, so that a reader can recognise it by its bytes and skip parsing it again.
"""

import sys
from array import array
from collections import OrderedDict

from .errors import BadEvent, BadRecord, Reason
from .events import MAX_KEY_CHARS, MetricsLogged
from .frames import Frame
from .varint import VarintError, decode_deltas, decode_long, encode_deltas, encode_long

_KEY_CACHE_BYTES = 32 * 1024 * 1024


def encode(event: MetricsLogged) -> bytes:
    """Avro body. BadEvent if a frame's arrays do not fit together."""
    out = [_string(event.run_id)]
    if event.frames:
        out.append(encode_long(len(event.frames)))
        for frame in event.frames:
            check_frame(frame)
            _encode_frame(frame, out)
    out.append(b"\x00")
    return b"".join(out)


def decode(body: bytes) -> MetricsLogged:
    """Read an Avro body whole; BadRecord says what is wrong."""
    try:
        run_id, at = _read_string(body, 0)
        frames: list[Frame] = []
        while True:
            count, _, at = _block(body, at)
            if not count:
                break
            # A frame is at least seven bytes long.
            if count * 7 > len(body) - at:
                raise BadRecord(Reason.ABSURD, f"{count} frames are claimed where {len(body) - at} bytes are left")
            for _ in range(count):
                frame, at = _decode_frame(body, at)
                frames.append(frame)
    except VarintError as error:
        raise BadRecord(Reason.BODY, str(error)) from None
    if at != len(body):
        raise BadRecord(Reason.TRAILING_BYTES, f"{len(body) - at} bytes follow the event")
    return MetricsLogged(run_id, tuple(frames))


def check_frame(frame: Frame) -> None:
    """Raise BadEvent unless the frame's arrays fit together and its keys are storable."""
    rows, width = len(frame.steps), len(frame.keys)
    if len(frame.times) != rows or len(frame.values) != rows * width:
        raise BadEvent(
            f"frame: {rows} steps, {len(frame.times)} times and {len(frame.values)} values do not make rows of {width} keys"
        )
    problem = key_problem(frame.keys)
    if problem:
        raise BadEvent(f"frame: {problem}")


def key_problem(keys: tuple[str, ...]) -> str | None:
    """What is wrong with a frame's keys, or None."""
    if len(set(keys)) != len(keys):
        return "a key stands twice"
    for key in keys:
        if not key or len(key) > MAX_KEY_CHARS:
            return f"key {key[:40]!r}… must have 1 to {MAX_KEY_CHARS} characters"
        if "\x00" in key:
            return f"key {key!r} holds a NUL character"
    return None


def _encode_frame(frame: Frame, out: list[bytes]) -> None:
    keys = b"".join(map(_string, frame.keys))
    if keys:
        out += (encode_long(-len(frame.keys)), encode_long(len(keys)), keys)
    out.append(b"\x00")
    for numbers in (frame.steps, frame.times):
        if numbers:
            out += (encode_long(len(numbers)), encode_deltas(numbers))
        out.append(b"\x00")
    if frame.values:
        out += (encode_long(len(frame.values)), _little_endian(frame.values).tobytes())
    out.append(b"\x00")
    for text in (frame.model_id, frame.dataset_name, frame.dataset_digest):
        out.append(b"\x00" if text is None else b"\x02" + _string(text))


def _decode_frame(body: bytes, at: int) -> tuple[Frame, int]:
    keys, at = _read_keys(body, at)
    steps, at = _read_deltas(body, at)
    times, at = _read_deltas(body, at)
    values, at = _read_doubles(body, at)
    model_id, at = _read_optional(body, at)
    dataset_name, at = _read_optional(body, at)
    dataset_digest, at = _read_optional(body, at)
    if len(times) != len(steps) or len(values) != len(steps) * len(keys):
        raise BadRecord(
            Reason.ABSURD,
            f"a frame has {len(keys)} keys, {len(steps)} steps, {len(times)} times and {len(values)} values",
        )
    return Frame(keys, steps, times, values, model_id, dataset_name, dataset_digest), at


class _KeyCache:
    """Key lists by the bytes of their block, least recently used first; bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._size = 0
        self._lists: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def get(self, block: bytes) -> tuple[str, ...] | None:
        keys = self._lists.get(block)
        if keys is not None:
            self._lists.move_to_end(block)
        return keys

    def put(self, block: bytes, keys: tuple[str, ...]) -> None:
        self._lists[block] = keys
        self._size += len(block)
        while self._size > self._most:
            oldest, _ = self._lists.popitem(last=False)
            self._size -= len(oldest)


_keys_by_block = _KeyCache(_KEY_CACHE_BYTES)


def _read_keys(body: bytes, at: int) -> tuple[tuple[str, ...], int]:
    count, size, start = _block(body, at)
    if size is not None and start + size < len(body) and body[start + size] == 0:
        block = body[at : start + size]
        keys = _keys_by_block.get(block)
        if keys is None:
            keys, end = _read_strings(body, start, count)
            if end != start + size:
                raise BadRecord(Reason.BODY, "a key list is not as long as its block says")
            _check_keys(keys)
            _keys_by_block.put(block, keys)
        return keys, start + size + 1
    parts: list[str] = []
    while count:
        strings, start = _read_strings(body, start, count)
        parts += strings
        count, _, start = _block(body, start)
    keys = tuple(parts)
    _check_keys(keys)
    return keys, start


def _check_keys(keys: tuple[str, ...]) -> None:
    problem = key_problem(keys)
    if problem:
        raise BadRecord(Reason.ABSURD, problem)


def _read_strings(body: bytes, at: int, count: int) -> tuple[tuple[str, ...], int]:
    _claim(body, at, count, 1)
    strings = []
    for _ in range(count):
        text, at = _read_string(body, at)
        strings.append(text)
    return tuple(strings), at


def _read_deltas(body: bytes, at: int) -> tuple["array[int]", int]:
    values = array("q")
    before = 0
    while True:
        count, _, at = _block(body, at)
        if not count:
            return values, at
        _claim(body, at, count, 1)
        part, at = decode_deltas(body, at, count, before)
        before = part[-1]
        values = values + part if values else part


def _read_doubles(body: bytes, at: int) -> tuple["array[float]", int]:
    values = array("d")
    while True:
        count, _, at = _block(body, at)
        if not count:
            return _little_endian(values), at
        _claim(body, at, count, 8)
        values.frombytes(body[at : at + 8 * count])
        at += 8 * count


def _read_optional(body: bytes, at: int) -> tuple[str | None, int]:
    branch, at = decode_long(body, at)
    if branch == 0:
        return None, at
    if branch != 1:
        raise BadRecord(Reason.BODY, f"branch {branch} of a union of two")
    text, at = _read_string(body, at)
    if "\x00" in text:
        raise BadRecord(Reason.ABSURD, f"{text!r} holds a NUL character")
    return text, at


def _read_string(body: bytes, at: int) -> tuple[str, int]:
    size, at = decode_long(body, at)
    if size < 0 or size > len(body) - at:
        raise BadRecord(Reason.BODY, f"a string of {size} bytes where {len(body) - at} are left")
    try:
        return body[at : at + size].decode(), at + size
    except UnicodeDecodeError:
        raise BadRecord(Reason.BODY, "a string is not UTF-8") from None


def _block(body: bytes, at: int) -> tuple[int, int | None, int]:
    """Count, size in bytes where the writer gave it, and where the items begin."""
    count, at = decode_long(body, at)
    if count >= 0:
        return count, None, at
    size, at = decode_long(body, at)
    if size < 0 or size > len(body) - at:
        raise BadRecord(Reason.ABSURD, f"a block of {size} bytes is claimed where {len(body) - at} are left")
    return -count, size, at


def _claim(body: bytes, at: int, count: int, least: int) -> None:
    if count * least > len(body) - at:
        raise BadRecord(Reason.ABSURD, f"{count} items are claimed where {len(body) - at} bytes are left")


def _string(text: str) -> bytes:
    data = text.encode()
    return encode_long(len(data)) + data


def _little_endian(values: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values
