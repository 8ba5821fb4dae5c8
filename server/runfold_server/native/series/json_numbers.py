"""Doubles in the JSON of the native API: what JSON has no number for is a text."""

import math
from typing import Any

import numpy as np

from runfold_server.openapi_schemas.common import Schema

NATIVE_NUMBER: Schema = {
    "description": "A double; what is not finite is a text.",
    "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}
NULLABLE_NATIVE_NUMBER: Schema = {**NATIVE_NUMBER, "anyOf": [*NATIVE_NUMBER["anyOf"], {"type": "null"}]}
Number = float | str


def number(value: float) -> Number:
    """One value."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")


def numbers(values: Any) -> list[Number]:
    """A column of values (float64)."""
    found: list[Number] = values.tolist()
    for at in np.flatnonzero(~np.isfinite(values)).tolist():
        found[at] = number(values[at])
    return found
