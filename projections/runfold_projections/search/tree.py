"""What a search expression means, free of spelling. A filter is a conjunction of clauses."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class KeyKind(StrEnum):
    """What a key belongs to; the values are MLflow's names in its messages."""

    METRIC = "metric"
    PARAM = "parameter"
    TAG = "tag"
    ATTRIBUTE = "attribute"
    DATASET = "dataset"


class Operator(StrEnum):
    """How a value is compared."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be compared or ordered by. Attributes have their one canonical name, aliases are gone."""

    kind: KeyKind
    name: str


@dataclass(frozen=True, slots=True)
class Compare:
    """The key exists and its value compares so. Numbers are times in ms, metric values or experiment ids."""

    key: Key
    operator: Operator
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Among:
    """The key exists and its value is one of these; or, if `negated`, none of them."""

    key: Key
    values: tuple[str, ...] | tuple[int, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Presence:
    """The key exists, or it does not."""

    key: Key
    present: bool


Clause: TypeAlias = Compare | Among | Presence


@dataclass(frozen=True, slots=True)
class Order:
    """One criterion to order by."""

    key: Key
    ascending: bool
