"""Many points in one call, from arrays of any kind. They equal the points of separate calls."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runfold
from runfold.pipeline.columns import doubles, whole_steps
from tests.support.doubles.event_server import EventServer


class Tensor:
    """Like a PyTorch tensor: an array behind detach(), cpu() and __array__()."""

    def __init__(self, held: Any) -> None:
        self.held = np.asarray(held)
        self.shape = self.held.shape

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def __array__(self) -> Any:
        return self.held

    def __len__(self) -> int:
        return len(self.held)


class Half(Tensor):
    """Like a PyTorch tensor of bfloat16, which NumPy can't convert."""

    dtype = "torch.bfloat16"

    def float(self) -> Tensor:
        return Tensor(self.held)

    def __array__(self) -> Any:
        raise TypeError("Got unsupported ScalarType BFloat16")


KINDS: dict[str, Callable[[list[float]], Any]] = {
    "list": list,
    "tuple": tuple,
    "array": lambda numbers: array("d", numbers),
    "numpy": np.asarray,
    "strided": lambda numbers: np.repeat(np.asarray(numbers), 2)[::2],
    "big-endian": lambda numbers: np.asarray(numbers).astype(">f8"),
    "tensor": Tensor,
    "bfloat16": Half,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_is_its_points(server: EventServer, kind: str) -> None:
    values = [0.5, -1.0, math.inf, 1e-300]
    with runfold.run() as run:
        run.log({"other": 1}, step=3)
        run.log_series("x", None, KINDS[kind](values))
        run.log_series("x", [5, 5, -7], KINDS[kind](values[:3]))
        run.log({"x": 9})
        run.log_series("x", None, [])
    assert [(step, row[0]) for keys, step, row in server.rows() if keys == ("x",)] == [
        *zip(range(4, 8), values, strict=True),
        *zip([5, 5, -7], values[:3], strict=True),
        (-6, 9.0),
    ]


@pytest.mark.parametrize(
    "kind",
    [
        list,
        np.asarray,
        Tensor,
        lambda rows: np.asarray(rows, order="F"),
        lambda rows: [array("d", row) for row in rows],
    ],
)
def test_wide_rows_are_their_rows(server: EventServer, kind: Any) -> None:
    rows = [[float(10 * r + k) for k in range(3)] for r in range(5)]
    with runfold.run() as run:
        run.log_rows(["a", "b", "c"], np.arange(5) * 10, kind(rows))
    assert server.rows() == [(("a", "b", "c"), 10 * r, row) for r, row in enumerate(rows)]


@given(
    st.lists(st.floats(width=32), min_size=1),
    st.sampled_from(["float16", "float32", "float64", "int8", "uint64", "bool"]),
)
def test_numpy_s_kinds_become_the_doubles_that_they_are(numbers: list[float], kind: str) -> None:
    with np.errstate(all="ignore"):
        source = np.asarray(numbers).astype(kind)
    expected = array("d", [float(number) for number in source])
    assert doubles(source, "x").tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["int8", "uint32", "int64", "uint64", ">i4"])
def test_steps_of_all_whole_kinds_are_taken(kind: str) -> None:
    assert whole_steps(np.asarray([1, 100]).astype(kind), 2) == array("q", [1, 100])


@pytest.mark.parametrize(
    ("steps", "values", "error", "says"),
    [
        ([0], [1.0, 2.0], ValueError, "1 steps for 2 rows"),
        ([0.5, 1], [1.0, 2.0], TypeError, "whole numbers"),
        (np.asarray([0.5, 1]), [1.0, 2.0], TypeError, "not float64"),
        (np.asarray([0, 2**63], "uint64"), [1.0, 2.0], ValueError, "64 bits"),
        ([0, 2**63], [1.0, 2.0], ValueError, "64 bits"),
        (None, ["a"], TypeError, "real numbers"),
        (None, np.asarray([1j]), TypeError, "complex"),
        (None, np.asarray(["a"]), TypeError, "real numbers"),
        (None, [10**400], ValueError, "does not fit"),
        (None, 5, TypeError, "sequence"),
        (None, np.asarray(5.0), TypeError, "not a single number"),
        (None, b"12345678", TypeError, "sequence"),
        (np.asarray(5), [1.0], TypeError, "sequence of whole numbers"),
        (b"12345678", [1.0], TypeError, "sequence of whole numbers"),
    ],
)
def test_what_is_no_series_is_an_error_and_nothing_of_it_is_logged(
    server: EventServer, steps: Any, values: Any, error: type[Exception], says: str
) -> None:
    with runfold.run() as run:
        with pytest.raises(error, match=says):
            run.log_series("x", steps, values)
        with pytest.raises(ValueError, match="empty"):
            run.log_series("", None, [1.0])
    assert server.rows() == []


def test_steps_do_not_go_on_beyond_the_last_one(server: EventServer) -> None:
    with runfold.run() as run:
        run.log_series("x", [2**63 - 2], [0.5])
        with pytest.raises(ValueError, match=f"step {2**63} does not fit"):
            run.log_series("x", None, [0.5, 1.0])
        run.log_series("x", None, [2.0])
    assert [step for _, step, _ in server.rows()] == [2**63 - 2, 2**63 - 1]


def test_rows_that_do_not_fit_their_keys_are_errors(server: EventServer) -> None:
    with runfold.run() as run:
        with pytest.raises(ValueError, match="2 columns for 3 keys"):
            run.log_rows(["a", "b", "c"], None, np.zeros((4, 2)))
        with pytest.raises(ValueError, match="row 1 has 1 values for 2 keys"):
            run.log_rows(["a", "b"], None, [[1, 2], [3]])
        with pytest.raises(ValueError, match="twice"):
            run.log_rows(["a", "a"], None, [[1, 2]])
    assert server.rows() == []


def test_more_than_memory_may_hold_goes_to_disk_by_the_call_itself(
    server: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_BUFFER_MB", "16")
    values = np.arange(3_000_000, dtype=float)
    with runfold.run() as run:
        run.log_series("x", None, values)
        assert run._writer._buffer.size <= 16 * 1024 * 1024
    assert run.refused == 0
    rows = server.rows()
    assert len(rows) == len(values)
    assert all(step == row[0] for _, step, row in rows)


def test_without_numpy_sequences_and_arrays_are_taken(server: EventServer) -> None:
    code = (
        "import sys, runfold\nfrom array import array\n"
        "with runfold.run() as run:\n"
        "    run.log_series('x', None, array('d', range(1000)))\n"
        "    run.log_rows(['a', 'b'], range(2), [[1, 2], [3, 4]])\n"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(server.rows()) == 1002
