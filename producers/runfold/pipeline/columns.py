"""Conversion of arrays to columns without a Python object per point.

Works with NumPy arrays, but never imports NumPy.
"""

import numbers
import time
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from .buffer import Rows
from .rows import Keys

_STEP_BOUND = 2**63
_SMALL_FLOATS = ("bfloat16", "float8", "float6", "float4")
"""Types of the package ml_dtypes, which JAX uses. NumPy gives them no kind of their own."""
_CHUNK_POINTS = 256 * 1024
"""2 MB of values."""


def doubles(values: Any, what: str) -> "array[float]":
    """Convert an array or tensor of one or two dimensions, or a sequence of numbers, to doubles, row by row.

    TypeError or ValueError names `what` and the first value that is not a number.
    """
    values = _plain(values)
    if _is_numpy(values):
        if values.dtype.kind not in "fiub" and not values.dtype.name.startswith(_SMALL_FLOATS):
            found = next((n for n, value in enumerate(values.flat) if not _is_real(value)), None)
            at = "" if found is None else f": value {found} is {values.flat[found]!r}"
            raise TypeError(f"{what} must hold real numbers, not {values.dtype}{at}")
        if not values.ndim:
            raise TypeError(f"{what} must be an array or a sequence of real numbers, not a single number")
        return _doubles(values.astype("float64", order="C", copy=False))
    view = _view(values)
    if view is not None and view.format == "d":
        return _doubles(view)
    try:
        if isinstance(values, bytes | bytearray):
            raise TypeError  # array() would read them as the machine's doubles
        return array("d", values)
    except TypeError:
        raise TypeError(f"{what} must be an array or a sequence of real numbers, not {_describe(values)}") from None
    except OverflowError:
        raise ValueError(f"{what}: an integer of this size does not fit into a 64-bit float") from None


def whole_steps(steps: Any, count: int) -> "array[int]":
    """Convert steps to 64-bit integers. TypeError or ValueError if they are not `count` whole numbers."""
    steps = _plain(steps)
    if _is_numpy(steps):
        if steps.dtype.kind not in "iu":
            raise TypeError(f"steps must be whole numbers, not {steps.dtype}")
        if not steps.ndim:
            raise TypeError("steps must be an array or a sequence of whole numbers")
        if steps.dtype.kind == "u" and steps.size and int(steps.max()) >= _STEP_BOUND:
            raise ValueError("a step does not fit into 64 bits")
        found = array("q")
        _fill(found, steps.astype("int64", order="C", copy=False))
    else:
        try:
            if isinstance(steps, bytes | bytearray):
                raise TypeError
            found = array("q", steps)
        except OverflowError:
            raise ValueError("a step does not fit into 64 bits") from None
        except TypeError:
            raise TypeError("steps must be an array or a sequence of whole numbers") from None
    if len(found) != count:
        raise ValueError(f"{len(found)} steps for {count} rows")
    return found


def width_of(values: Any) -> int | None:
    """Return the number of columns of a two-dimensional array; None for anything else."""
    shape = getattr(values, "shape", None)
    return int(shape[1]) if shape is not None and len(shape) == 2 else None


def chunks(keys: Keys, steps: "array[int]", values: "array[float]") -> Iterator[Rows]:
    """Split columns into blocks of about 2 MB. All rows get the current time."""
    width = len(keys.names)
    now = time.time_ns() // 1_000_000
    rows = max(1, _CHUNK_POINTS // width)
    for at in range(0, len(steps), rows):
        part = steps[at : at + rows]
        yield Rows(keys, 0, part, array("q", [now]) * len(part), values[at * width : (at + rows) * width])


def flat(rows: Sequence[Any], width: int) -> "array[float]":
    """Convert a sequence of rows of `width` numbers to doubles, row by row."""
    found = array("d")
    for number, row in enumerate(rows):
        numbers = doubles(row, f"row {number}")
        if len(numbers) != width:
            raise ValueError(f"row {number} has {len(numbers)} values for {width} keys")
        found.extend(numbers)
    return found


def _plain(values: Any) -> Any:
    """Convert arrays of PyTorch and other libraries to NumPy arrays, with their own methods."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(getattr(values, "dtype", "")).startswith(("torch.bfloat16", "torch.float8")):
            values = values.float()
    if not _is_numpy(values) and hasattr(values, "__array__"):
        values = values.__array__()
    return values


def _describe(values: Any) -> str:
    """Describe a value that can't be converted: its first member that is not a number, or else its type."""
    if isinstance(values, list | tuple):
        for number, value in enumerate(values):
            if not _is_real(value):
                return f"{value!r:.100} (value {number})"
    return type(values).__qualname__


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) or hasattr(value, "__float__")


def _is_numpy(values: Any) -> bool:
    return type(values).__module__ == "numpy" and hasattr(values, "astype")


def _view(values: Any) -> memoryview | None:
    try:
        view = memoryview(values)
    except TypeError:
        return None
    return view if view.c_contiguous else None


def _doubles(source: Any) -> "array[float]":
    made = array("d")
    _fill(made, source)
    return made


def _fill(made: "array[Any]", source: Any) -> None:
    if len(source):
        made.frombytes(memoryview(source).cast("B"))
