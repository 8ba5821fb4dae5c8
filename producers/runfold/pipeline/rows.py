"""Conversion of logged dicts to rows of doubles: checks, nested dicts, scalars of other libraries."""

import logging
import numbers
import operator
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SEPARATOR = "/"
_MAX_CACHED_BYTES = 16 * 1024 * 1024
"""Memory for checked key tuples; beyond it the cache starts over."""
_LIST_BYTES, _NAME_BYTES = 350, 64
"""Memory for a cached key tuple besides its names, and for a name besides its text."""
_MAX_NONE_WARNINGS = 1_000
_MAX_DEPTH = 100
_log = logging.getLogger("runfold")


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """The checked keys of a row. Equal key tuples share one object, so rows of one frame are recognised by identity."""

    names: tuple[str, ...]
    bytes: int
    """Size of the names in UTF-8, their length fields included."""


class RowReader:
    """Converts the dict of a log call to keys and values. Thread-safe: entries of its caches stay valid for ever."""

    def __init__(self) -> None:
        # Imported here because the schemas bring pydantic and fastavro, which would slow down `import runfold`.
        from runfold_schemas.codec.metrics import key_problem

        self._problem = key_problem
        self._plain: set[type] = {float, int, bool}
        self._known: dict[tuple[str, ...], Keys] = {}
        self._cached = 0
        self._seen_as_none: set[str] = set()

    def read(self, metrics: Mapping[str, Any]) -> tuple[Keys, "array[float]"]:
        """Return the keys and values of one row. TypeError or ValueError names the key and its problem."""
        try:
            values = metrics.values()
        except AttributeError:
            raise TypeError(f"run.log takes a dict of names and numbers, not {_type_name(metrics)}") from None
        names = tuple(metrics)
        if not self._plain.issuperset(map(type, values)):
            flat = self._flat(metrics)
            names, values = tuple(flat), flat.values()
        try:
            row = array("d", [*values])
        except OverflowError:
            name = next(name for name, value in zip(names, values, strict=True) if _overflows(value))
            raise ValueError(f"metric {name!r}: an integer of this size does not fit into a 64-bit float") from None
        if len(row) != len(names):
            raise RuntimeError("the dict of metrics changed while it was read; nothing was logged")
        return self._known.get(names) or self._check(names), row

    def keys(self, names: tuple[str, ...]) -> Keys:
        """Check names as metric keys. TypeError or ValueError names the key and its problem."""
        return self._known.get(names) or self._check(names)

    def _check(self, names: tuple[str, ...]) -> Keys:
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"metric name {name!r} must be a str, not {_type_name(name)}")
        problem = self._problem(names)
        if problem:
            raise ValueError(f"metrics: {problem}")
        try:
            size = sum(len(name.encode()) + 5 for name in names)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"metric name {error.object!r} contains a lone surrogate, which UTF-8 can't encode"
            ) from None
        if self._cached > _MAX_CACHED_BYTES:
            self._known.clear()
            self._cached = 0
        self._cached += size + _NAME_BYTES * len(names) + _LIST_BYTES
        return self._known.setdefault(names, Keys(names, size))

    def _flat(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        flat: dict[str, float] = {}
        for name, value in flatten(metrics, "metric"):
            if name in flat:
                raise ValueError(f"metric {name!r} is given twice: nested, and with {SEPARATOR!r} in its name")
            if value is None:
                self._warn_none(name)
                continue
            flat[name] = value if type(value) in self._plain else self._number(name, value)
        return flat

    def _warn_none(self, name: str) -> None:
        if name not in self._seen_as_none and len(self._seen_as_none) < _MAX_NONE_WARNINGS:
            self._seen_as_none.add(name)
            _log.warning("runfold: metric %r is None and is left out; this warning appears once per metric", name)

    def _number(self, name: str, value: Any) -> float:
        if isinstance(value, numbers.Real):
            try:
                number = float(value)
            except OverflowError:
                raise ValueError(f"metric {name!r}: a number of this size does not fit into a 64-bit float") from None
            except (TypeError, ValueError) as error:
                raise TypeError(f"metric {name!r}: {_type_name(value)} is not a real number: {error}") from None
            # From now on NumPy's float32, int64 and so on take the fast path, because array('d') accepts them.
            if type(value).__module__ == "numpy":
                self._plain.add(type(value))
            return number
        item = getattr(value, "item", None)
        if item is not None:
            try:
                held = item()
            except (ValueError, TypeError, RuntimeError) as error:
                raise TypeError(f"metric {name!r}: {_type_name(value)} is not a single number: {error}") from None
            if isinstance(held, numbers.Real):
                return self._number(name, held)
            raise TypeError(f"metric {name!r}: {_type_name(value)} holds {_type_name(held)}, not a real number")
        raise TypeError(f"metric {name!r} must be a number, not {_type_name(value)}")


def flatten(tree: Mapping[str, Any], what: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dicts in order, under their joined names.

    An empty dict is a leaf unless numbers are expected.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"{what} {prefix[:100]!r} is nested deeper than {_MAX_DEPTH} dicts")
    for name, value in tree.items():
        if not isinstance(name, str):
            raise TypeError(f"{what} name {name!r} must be a str, not {_type_name(name)}")
        if isinstance(value, Mapping) and (value or what == "metric"):
            yield from flatten(value, what, f"{prefix}{name}{SEPARATOR}", depth + 1)
        else:
            yield prefix + name, value


def _overflows(value: Any) -> bool:
    try:
        float(value)
    except OverflowError:
        return True
    return False


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def strings(tree: Mapping[str, Any], what: str) -> dict[str, str]:
    """Return the leaves of nested dicts as strings, under their joined names."""
    if not isinstance(tree, Mapping):
        raise TypeError(f"{what}s must be a dict, not {type(tree).__qualname__}")
    return {name: str(value) for name, value in flatten(tree, what)}


def tag_strings(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as strings. An unknown rank reduction causes a warning, because it must not end a training."""
    # Imported here because the schemas would slow down `import runfold`.
    from runfold_schemas.events.rank_reduction import REDUCTION_TAG, Reduction

    found = strings(tags, "tag")
    value = found.get(REDUCTION_TAG, Reduction.ALL)
    if value not in set(Reduction):
        _log.warning(
            "runfold: the tag %s is %.100r, which is not a rank reduction, so MLflow shows the points of all ranks. "
            "Use one of %s",
            REDUCTION_TAG,
            value,
            ", ".join(Reduction),
        )
    return found


def whole_step(step: Any) -> int:
    """Convert a step to an int. TypeError if it is not a whole number."""
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"step must be a whole number, not {type(step).__qualname__} {step!r}") from None
