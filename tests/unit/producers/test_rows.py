"""Conversion of logged dicts to rows: values, keys, and the memory that remembered keys take."""

from __future__ import annotations

import gc
import re
import tracemalloc
from array import array
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from runfold.pipeline.rows import RowReader


class Scalar:
    """Like a PyTorch scalar: a number behind item()."""

    def __init__(self, held: object) -> None:
        self.held = held

    def item(self) -> object:
        if isinstance(self.held, Exception):
            raise self.held
        return self.held


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (True, 1.0),
        (-0.5, -0.5),
        (Fraction(1, 4), 0.25),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(2), 2.0),
        (np.longdouble(2), 2.0),
        (np.int64(-3), -3.0),
        (np.uint8(3), 3.0),
        (np.bool_(True), 1.0),
        (np.array(0.5), 0.5),
        (np.array([0.5]), 0.5),
        (Scalar(0.25), 0.25),
        (Scalar(True), 1.0),
    ],
)
def test_numbers_of_many_kinds_become_doubles(value: object, number: float) -> None:
    reader = RowReader()
    # Twice, because the second time the type may be cached.
    for _ in range(2):
        keys, values = reader.read({"a": value, "b": 2})
        assert keys.names == ("a", "b")
        assert values == array("d", [number, 2.0])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("0.5", "str"),
        (1j, "complex"),
        ([1.0], "list"),
        (Decimal(1), "decimal.Decimal"),
        (np.zeros(2), "numpy.ndarray"),
        (np.complex64(1), "numpy.complex64"),
        (np.datetime64("2020-01-01"), "numpy.datetime64"),
        (np.str_("a"), "numpy.str_"),
        (Scalar("x"), "Scalar"),
        (Scalar(RuntimeError("two elements")), "two elements"),
    ],
)
def test_anything_else_is_an_error_with_key_and_type(value: object, kind: str) -> None:
    with pytest.raises(TypeError, match=f"'some/key'.*{re.escape(kind)}"):
        RowReader().read({"fine": 1, "some": {"key": value}})


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400), Scalar(10**400)])
def test_a_number_beyond_a_double_is_an_error_with_its_key(value: object) -> None:
    with pytest.raises(ValueError, match=r"'big'.*does not fit into a 64-bit float"):
        RowReader().read({"fine": 1, "big": value})


def test_nested_dicts_are_joined() -> None:
    keys, values = RowReader().read({"a": {"b": {"c": 1}, "d": 2}, "e": 3, "f": {}})
    assert keys.names == ("a/b/c", "a/d", "e")
    assert list(values) == [1, 2, 3]


@pytest.mark.parametrize(
    ("metrics", "error", "says"),
    [
        ({"": 1}, ValueError, "empty"),
        ({"k" * 251: 1}, ValueError, "251 characters"),
        ({"a\0": 1}, ValueError, "NUL"),
        ({"a\ud800": 1}, ValueError, "surrogate"),
        ({1: 1}, TypeError, "name 1 must be a str, not int"),
        ({"a": {None: 1}}, TypeError, "NoneType"),
        ({"a/b": 1, "a": {"b": 2}}, ValueError, "'a/b' is given twice"),
        ([("a", 1)], TypeError, "a dict"),
        (0.5, TypeError, "a dict"),
    ],
)
def test_keys_are_checked(metrics: Any, error: type[Exception], says: str) -> None:
    reader = RowReader()
    for _ in range(2):
        with pytest.raises(error, match=says):
            reader.read(metrics)
    assert reader.read({"k" * 250: 1})[0].bytes == 255


def test_a_dict_that_changes_while_it_is_read_is_an_error_and_no_row_without_its_keys() -> None:
    class Changing(dict[str, float]):
        def values(self) -> Any:
            yield from super().values()
            yield 0.5

    with pytest.raises(RuntimeError, match="changed while it was read"):
        RowReader().read(Changing(a=1.0))


def test_nesting_without_end_is_an_error() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(ValueError, match="deeper"):
        RowReader().read(endless)


def test_equal_keys_are_one_object_and_the_cache_is_bounded() -> None:
    reader = RowReader()
    assert reader.read({"a": 1, "b": 2})[0] is reader.read({"a": 3, "b": 4})[0]
    for n in range(300):
        reader.read({f"{n}/{k}": k for k in range(1000)})
    assert sum(map(len, reader._known)) <= 202_000


def test_memory_of_checked_keys_is_bounded_by_bytes_and_not_by_their_number() -> None:
    reader = RowReader()
    reader.read({"warm": 1.0})
    gc.collect()
    tracemalloc.start()
    try:
        before, most = tracemalloc.get_traced_memory()[0], 0
        for n in range(60_000):
            reader.read({f"{n}/".ljust(250, "x"): 1.0, f"{n}/loss".ljust(250, "x"): 2.0})
            if n % 5_000 == 0:
                most = max(most, tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert most < 25_000_000
    keys, row = reader.read({"warm": 1.0})
    assert (keys.names, list(row)) == (("warm",), [1.0])
