"""Body of `MetricsLogged` v1, written and read without a model in between; fastavro is the reference it must agree
with.

A key list is written as one sized Avro block, so that a reader can recognise it by its bytes and skip parsing it again.
"""

import re
import sys
from array import array
from collections.abc import Iterable

from runfold_schemas.bounded_cache import NAME_BYTES, BoundedCache
from runfold_schemas.errors import BadEvent, BadRecord, Reason
from runfold_schemas.events.base import MAX_KEY_CHARS, MAX_NAME_CHARS, RUN_ID_PATTERN
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import MetricsLogged

from .varint import VarintError, decode_deltas, decode_long, encode_deltas, encode_long

_KEY_CACHE_BYTES = 32 * 1024 * 1024

_is_run_id = re.compile(RUN_ID_PATTERN).fullmatch


def encode(event: MetricsLogged) -> bytes:
    """Avro body. BadEvent if a frame's arrays do not fit together, or a text breaks a bound."""
    if not _is_run_id(event.run_id):
        raise BadEvent(_run_id_problem(event.run_id))
    return _string(event.run_id) + encode_frames(event.frames)


def decode(body: bytes) -> MetricsLogged:
    """Read an Avro body whole; BadRecord says what is wrong."""
    try:
        run_id, at = _read_string(body, 0)
    except VarintError as error:
        raise BadRecord(Reason.BODY, str(error)) from None
    if not _is_run_id(run_id):
        raise BadRecord(Reason.ABSURD, _run_id_problem(run_id))
    return MetricsLogged(run_id, decode_frames(body, at))


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """The event's `frames` field alone, as frames also lie at rest. Raises as `encode` does."""
    encoding = FramesEncoding()
    for frame in frames:
        encoding.add(frame)
    return encoding.whole()


class FramesEncoding:
    """`encode_frames`, frame by frame."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._count = 0

    def add(self, frame: Frame) -> None:
        """One more frame. Raises as `encode` does."""
        _check_shape(frame)
        _encode_frame(frame, self._parts)
        self._count += 1

    def whole(self) -> bytes:
        """All of them."""
        head = encode_long(self._count) if self._count else b""
        return b"".join([head, *self._parts, b"\x00"])


def decode_frames(body: bytes, at: int = 0) -> tuple[Frame, ...]:
    """Read frames from `at` to the end of the bytes; BadRecord says what is wrong."""
    frames: list[Frame] = []
    try:
        while True:
            count, end, at = _block(body, at)
            if not count:
                break
            # A frame is at least seven bytes long.
            if count * 7 > len(body) - at:
                raise BadRecord(Reason.ABSURD, f"{count} frames are claimed where {len(body) - at} bytes are left")
            for _ in range(count):
                frame, at = _decode_frame(body, at)
                frames.append(frame)
            _check_end(at, end)
    except VarintError as error:
        raise BadRecord(Reason.BODY, str(error)) from None
    if at != len(body):
        raise BadRecord(Reason.TRAILING_BYTES, f"{len(body) - at} bytes follow the event")
    return tuple(frames)


def check_frame(frame: Frame) -> None:
    """Raise BadEvent unless the frame's arrays fit together and its keys and context are storable."""
    _check_shape(frame)
    problem = key_problem(frame.keys)
    if problem:
        raise BadEvent(f"frame: {problem}")


def _check_shape(frame: Frame) -> None:
    rows, width = len(frame.steps), len(frame.keys)
    if len(frame.times) != rows or len(frame.values) != rows * width:
        raise BadEvent(
            f"frame: {rows} steps, {len(frame.times)} times and {len(frame.values)} values "
            f"do not make rows of {width} keys"
        )
    for (name, most), text in zip(_CONTEXT, (frame.model_id, frame.dataset_name, frame.dataset_digest), strict=True):
        problem = text and _text_problem(name, text, most)
        if problem:
            raise BadEvent(f"frame: {problem}")


def key_problem(keys: tuple[str, ...]) -> str | None:
    """What is wrong with a frame's keys, or None."""
    if len(set(keys)) != len(keys):
        return "a key stands twice"
    for key in keys:
        problem = _text_problem("key", key, MAX_KEY_CHARS) if key else "a key is empty"
        if problem:
            return problem
    return None


_CONTEXT = (("model_id", MAX_KEY_CHARS), ("dataset_name", MAX_NAME_CHARS), ("dataset_digest", MAX_KEY_CHARS))


def _text_problem(name: str, text: str, most: int) -> str | None:
    if len(text) > most:
        return f"{name} {text[:40]!r}… has {len(text)} characters, at most {most} are allowed"
    if "\x00" in text:
        return f"{name} {text[:40]!r} holds a NUL character"
    return None


def _run_id_problem(run_id: str) -> str:
    return f"run_id {run_id[:40]!r} must match {RUN_ID_PATTERN}"


def _encode_frame(frame: Frame, out: list[bytes | memoryview]) -> None:
    out.append(_key_block(frame.keys))
    for numbers in (frame.steps, frame.times):
        if numbers:
            out += (encode_long(len(numbers)), encode_deltas(numbers))
        out.append(b"\x00")
    if frame.values:
        out += (encode_long(len(frame.values)), memoryview(_little_endian(frame.values)))
    out.append(b"\x00")
    for text in (frame.model_id, frame.dataset_name, frame.dataset_digest):
        out.append(b"\x00" if text is None else b"\x02" + _string(text))


def _key_block(keys: tuple[str, ...]) -> bytes:
    if not keys:
        return b"\x00"
    block = _blocks_by_keys.get(keys)
    if block is None:
        problem = key_problem(keys)
        if problem:
            raise BadEvent(f"frame: {problem}")
        texts = b"".join(map(_string, keys))
        block = b"".join((encode_long(-len(keys)), encode_long(len(texts)), texts, b"\x00"))
        _blocks_by_keys.put(keys, block, _cost(block, keys))
    return block


def _decode_frame(body: bytes, at: int) -> tuple[Frame, int]:
    keys, at = _read_keys(body, at)
    steps, at = _read_deltas(body, at)
    times, at = _read_deltas(body, at)
    values, at = _read_doubles(body, at)
    model_id = dataset_name = dataset_digest = None
    if body[at : at + 3] == b"\x00\x00\x00":
        at += 3
    else:
        model_id, at = _read_optional(body, at, *_CONTEXT[0])
        dataset_name, at = _read_optional(body, at, *_CONTEXT[1])
        dataset_digest, at = _read_optional(body, at, *_CONTEXT[2])
    if len(times) != len(steps) or len(values) != len(steps) * len(keys):
        raise BadRecord(
            Reason.ABSURD,
            f"a frame has {len(keys)} keys, {len(steps)} steps, {len(times)} times and {len(values)} values",
        )
    return Frame(keys, steps, times, values, model_id, dataset_name, dataset_digest), at


def _cost(block: bytes, keys: tuple[str, ...]) -> int:
    return 2 * len(block) + NAME_BYTES * len(keys)


_keys_by_block: BoundedCache[bytes, tuple[str, ...]] = BoundedCache(_KEY_CACHE_BYTES)
_blocks_by_keys: BoundedCache[tuple[str, ...], bytes] = BoundedCache(_KEY_CACHE_BYTES)


def _read_keys(body: bytes, at: int) -> tuple[tuple[str, ...], int]:
    count, end, start = _block(body, at)
    if end is not None and end < len(body) and body[end] == 0:
        block = body[at:end]
        keys = _keys_by_block.get(block)
        if keys is None:
            keys, start = _read_strings(body, start, count)
            _check_end(start, end)
            _check_keys(keys)
            _keys_by_block.put(block, keys, _cost(block, keys))
        return keys, end + 1
    parts: list[str] = []
    while count:
        strings, start = _read_strings(body, start, count)
        _check_end(start, end)
        parts += strings
        count, end, start = _block(body, start)
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
        count, end, at = _block(body, at)
        if not count:
            return values, at
        _claim(body, at, count, 1)
        part, at = decode_deltas(body, at, count, before)
        _check_end(at, end)
        if not values and body[at : at + 1] == b"\x00":
            return part, at + 1
        before = part[-1]
        # In place: a new array per block would cost a hostile record of many small blocks quadratic time.
        if values:
            values.extend(part)
        else:
            values = part


def _read_doubles(body: bytes, at: int) -> tuple["array[float]", int]:
    values = array("d")
    while True:
        count, end, at = _block(body, at)
        if not count:
            return _little_endian(values), at
        _claim(body, at, count, 8)
        values.frombytes(memoryview(body)[at : at + 8 * count])
        at += 8 * count
        _check_end(at, end)
        if body[at : at + 1] == b"\x00":
            return _little_endian(values), at + 1


def _read_optional(body: bytes, at: int, name: str, most: int) -> tuple[str | None, int]:
    branch, at = decode_long(body, at)
    if branch == 0:
        return None, at
    if branch != 1:
        raise BadRecord(Reason.BODY, f"branch {branch} of a union of two")
    text, at = _read_string(body, at)
    problem = _text_problem(name, text, most)
    if problem:
        raise BadRecord(Reason.ABSURD, problem)
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
    """Count, where the items end if the writer gave their size, and where they begin."""
    if at < len(body) and (n := body[at]) < 0x80 and not n & 1:
        return n >> 1, None, at + 1
    count, at = decode_long(body, at)
    if count >= 0:
        return count, None, at
    size, at = decode_long(body, at)
    if size < 0 or size > len(body) - at:
        raise BadRecord(Reason.ABSURD, f"a block of {size} bytes is claimed where {len(body) - at} are left")
    return -count, at + size, at


def _check_end(at: int, end: int | None) -> None:
    """A wrong size is refused though nothing here needs it: a reader that skips by it would read other data."""
    if end is not None and at != end:
        raise BadRecord(Reason.BODY, "a block is not as long as its size says")


def _claim(body: bytes, at: int, count: int, least: int) -> None:
    if count * least > len(body) - at:
        raise BadRecord(Reason.ABSURD, f"{count} items are claimed where {len(body) - at} bytes are left")


def _string(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise BadEvent(f"{text[:40]!r} holds a lone surrogate, which UTF-8 can't carry") from None
    return encode_long(len(data)) + data


def _little_endian(values: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values
