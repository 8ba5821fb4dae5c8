"""Which events concern one field of an entity: those that changed it, and the rejected ones that asked to."""

from collections.abc import Iterable, Sequence
from typing import Any

_VERSION, _ALIAS = "versions.", "alias."


def changes_field(field: str, changes: Sequence[dict[str, Any]]) -> bool:
    """Return whether one of the changes is of the field, or of one below it (`versions.3`).

    A version's changes include aliases that were set on it or moved away.
    """
    number = field.removeprefix(_VERSION) if field.startswith(_VERSION) else ""
    return any(
        _is_below(one["field"], field)
        or (number and one["field"].startswith(_ALIAS) and number in (str(one["from"]), str(one["to"])))
        for one in changes
    )


def requests_field(field: str, requested: Iterable[str]) -> bool:
    """Return whether one of the requested fields is the field, one below it, or one that it is a part of."""
    return any(_is_below(name, field) or _is_below(field, name) for name in requested)


def _is_below(name: str, field: str) -> bool:
    return name == field or name.startswith(f"{field}.")
