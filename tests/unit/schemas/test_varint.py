"""Numbers as Avro writes them: the ways that are fast for many agree with the plain one."""

import sys
from array import array
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.codec.varint import decode_deltas, encode_deltas, encode_long
from tests.support.histories.schema_strategies import quick

MASK = 2**64 - 1
LONGS = st.integers(-(2**63), 2**63 - 1)
STEPS = st.one_of(
    st.lists(LONGS, max_size=30),
    st.tuples(LONGS, st.lists(st.integers(-70, 70), max_size=30)).map(
        lambda given: [(given[0] + sum(given[1][:n]) + 2**63) % 2**64 - 2**63 for n in range(len(given[1]) + 1)]
    ),
)


def plainly(values: list[int]) -> bytes:
    before, out = 0, b""
    for value in values:
        delta = (value - before + 2**63) % 2**64 - 2**63
        out += encode_long(delta)
        before = value
    return out


@quick
@given(STEPS, st.integers(1, 20))
def test_deltas_are_the_same_bytes_with_numpy_and_without(values: list[int], times: int) -> None:
    assert np is sys.modules["numpy"]
    many = values * times * 10
    expected = plainly(many)
    assert encode_deltas(array("q", many)) == expected
    with mock.patch.dict(sys.modules):
        del sys.modules["numpy"]
        assert encode_deltas(array("q", many)) == expected
    assert decode_deltas(expected, 0, len(many), 0) == (array("q", many), len(expected))
