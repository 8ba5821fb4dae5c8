"""Values that all answers share: numbers, params and tags, pages. Empty lists and unset fields are left out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Json = dict[str, Any]
LARGEST = 1.7976931348623157e308
"""The double that MLflow's database stores for an infinity."""


class KeyValue(msgspec.Struct, gc=False):
    """A tag or a param. A struct, because a page of a search has tens of thousands."""

    key: str
    value: str


def encode_number(value: float) -> float | str:
    """Return a metric's value: NaN as a string, infinities as the largest doubles."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else math.copysign(LARGEST, value)


def encode_pairs(pairs: Mapping[str, str]) -> list[KeyValue]:
    """Return tags or params, by key."""
    return [KeyValue(key, value) for key, value in sorted(pairs.items())]


def without_empty(fields: Mapping[str, Any]) -> Json:
    """Return the fields without those that are None or an empty list, as protobuf's JSON has them."""
    return {name: value for name, value in fields.items() if value is not None and value != []}


def encode_page(name: str, rows: Sequence[Any], token: str | None) -> Json:
    """Return a list answer: left out when empty, with a token when more rows follow."""
    return without_empty({name: list(rows), "next_page_token": token})
