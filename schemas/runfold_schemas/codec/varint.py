"""Avro's longs: zigzag, then base-128 varints, least significant group first (Avro 1.12 specification, binary
encoding).
"""

import sys
from array import array
from itertools import accumulate
from operator import sub
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MASK64 = 2**64 - 1
_VECTOR_FROM = 200
"""Below this many numbers NumPy's fixed cost (some 40 µs) is larger than a Python loop's."""
_SMALL = tuple((n >> 1) ^ -(n & 1) for n in range(0x80))
"""The numbers that one byte can say."""
_FAR = 2**62
"""As many small numbers as a record can hold do not lead from within this beyond 64 bits."""


class VarintError(ValueError):
    """The bytes end inside a number, or it is longer than 64 bits."""


def encode_long(value: int) -> bytes:
    """One long as Avro bytes."""
    n = ((value << 1) ^ (value >> 63)) & MASK64
    if n < 0x80:
        return bytes((n,))
    out = bytearray()
    while n >= 0x80:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def decode_long(data: bytes, at: int) -> tuple[int, int]:
    """The long at `at`, and where the next byte is."""
    if at < len(data) and (n := data[at]) < 0x80:
        return (n >> 1) ^ -(n & 1), at + 1
    n, at = _decode_unsigned(data, at)
    return (n >> 1) ^ -(n & 1), at


def _decode_unsigned(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    for i in range(at, min(at + 10, len(data))):
        byte = data[i]
        n |= (byte & 0x7F) << shift
        if byte < 0x80:
            if n > MASK64:
                raise VarintError("a number is longer than 64 bits")
            return n, i + 1
        shift += 7
    raise VarintError("the bytes end inside a number" if len(data) < at + 10 else "a number is longer than 64 bits")


def encode_deltas(values: "Sequence[int]") -> bytes:
    """Differences of neighbours (the first: to 0) in 64-bit two's complement, as Avro longs."""
    if len(values) >= _VECTOR_FROM and "numpy" in sys.modules:
        return _encode_deltas_vector(values)
    if len(values) > 1:
        # Steps and times mostly grow a little: then each is one byte, and no byte code runs per number.
        deltas = [*map(sub, values[1:], values)]
        if min(deltas) >= 0 and max(deltas) < 0x40:
            return encode_long(values[0]) + bytes(map((2).__mul__, deltas))
    out = bytearray()
    before = 0
    for value in values:
        delta = (value - before) & MASK64
        before = value
        n = (delta << 1) & MASK64 if delta < 2**63 else (((MASK64 - delta) << 1) | 1)
        while n >= 0x80:
            out.append((n & 0x7F) | 0x80)
            n >>= 7
        out.append(n)
    return bytes(out)


def _encode_deltas_vector(values: "Sequence[int]") -> bytes:
    import numpy as np  # imported on first use: the SDK works without it

    numbers: Any = np.asarray(values, np.int64)
    deltas = numbers.view(np.uint64).copy()
    deltas[1:] -= numbers.view(np.uint64)[:-1]
    zigzag = (deltas << np.uint64(1)) ^ (np.uint64(0) - (deltas >> np.uint64(63)))
    if int(zigzag[1:].max(initial=0)) < 0x80:
        small: bytes = zigzag[1:].astype(np.uint8).tobytes()
        return encode_long(values[0]) + small
    lengths = np.ones(len(zigzag), np.int64)
    for group in range(1, 10):
        longer = zigzag >= np.uint64(1 << (7 * group))
        if not longer.any():
            break
        lengths += longer
    ends = np.cumsum(lengths)
    starts = ends - lengths
    out = np.empty(int(ends[-1]), np.uint8)
    for group in range(int(lengths.max())):
        has = lengths > group
        part = (zigzag[has] >> np.uint64(7 * group)).astype(np.uint8)
        out[starts[has] + group] = np.where(lengths[has] > group + 1, part | np.uint8(0x80), part & np.uint8(0x7F))
    whole: bytes = out.tobytes()
    return whole


def decode_deltas(data: bytes, at: int, count: int, before: int) -> tuple["array[int]", int]:
    """`count` values that continue from `before`, and where the next byte is."""
    if count >= _VECTOR_FROM and "numpy" in sys.modules:
        return _decode_deltas_vector(data, at, count, before)
    if not count:
        return array("q"), at
    first, then = decode_long(data, at)
    rest = data[then : then + count - 1]
    if len(rest) == count - 1 and rest.isascii() and -_FAR < before + first < _FAR:
        # Steps and times mostly grow a little: one byte each, and no byte code runs per number.
        grown = accumulate(map(_SMALL.__getitem__, rest), initial=before + first)
        return array("q", grown), then + count - 1
    values = []
    try:
        for _ in range(count):
            # Inlined for numbers of one and two bytes: almost all steps and times are such.
            n = data[at]
            at += 1
            if n >= 0x80:
                high = data[at]
                if high < 0x80:
                    n += (high << 7) - 0x80
                    at += 1
                else:
                    n, at = _decode_unsigned(data, at - 1)
            before += (n >> 1) ^ -(n & 1)
            if not -(2**63) <= before < 2**63:
                before = ((before + 2**63) & MASK64) - 2**63
            values.append(before)
    except IndexError:
        raise VarintError("the bytes end inside a number") from None
    return array("q", values), at


def _decode_deltas_vector(data: bytes, at: int, count: int, before: int) -> tuple["array[int]", int]:
    import numpy as np

    first, then = decode_long(data, at)
    rest = data[then : then + count - 1]
    if len(rest) == count - 1 and rest.isascii() and -_FAR < before + first < _FAR:
        small: Any = np.frombuffer(rest, np.int8)
        grown = array("q", bytes(8 * count))
        view: Any = np.frombuffer(grown, np.int64)
        view[0] = before + first
        np.cumsum((small >> 1) ^ -(small & 1), dtype=np.int64, out=view[1:])
        view[1:] += view[0]
        return grown, then + count - 1
    window: Any = np.frombuffer(data, np.uint8, offset=at, count=min(len(data) - at, 10 * count))
    ends = np.flatnonzero(window < 0x80)[:count]
    if len(ends) < count:
        raise VarintError("the bytes end inside a number")
    stop = int(ends[-1]) + 1
    starts = np.empty(count, np.int64)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 10 or bool((window[ends[lengths == 10]] > 1).any()):
        raise VarintError("a number is longer than 64 bits")
    n = np.zeros(count, np.uint64)
    for group in range(longest):
        has = lengths > group
        n[has] |= (window[starts[has] + group] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * group)
    deltas = (n >> np.uint64(1)) ^ (np.uint64(0) - (n & np.uint64(1)))
    # A slice, since NumPy warns of the wrap-around of a scalar that is meant here.
    deltas[:1] += np.uint64(before & MASK64)
    values = array("q")
    values.frombytes(np.cumsum(deltas, dtype=np.uint64).tobytes())
    return values, at + stop
