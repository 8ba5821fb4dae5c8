"""Which events have to do with one field of an entity: those that changed it, and of the refused ones those that asked to."""

from collections.abc import Iterator, Sequence
from typing import Any

from runfold_schemas.events.all_events import Event
from runfold_schemas.events.registered_models import ModelsPromoted

_VERSION, _ALIAS = "versions.", "alias."


def changes_about(field: str, changes: Sequence[dict[str, Any]]) -> bool:
    """Whether one of the changes is of the field, or of one below it (`versions.3`); a version's are those of aliases that came or went, too."""
    number = field.removeprefix(_VERSION) if field.startswith(_VERSION) else ""
    return any(
        _below(one["field"], field)
        or (number and one["field"].startswith(_ALIAS) and number in (str(one["from"]), str(one["to"])))
        for one in changes
    )


def asks_about(field: str, event: Event) -> bool:
    """Whether an event asks to change the field, one below it, or what it is part of, by what it holds alone."""
    return any(_below(name, field) or _below(field, name) for name in _asked(event))


def _below(name: str, field: str) -> bool:
    return name == field or name.startswith(f"{field}.")


def _asked(event: Any) -> Iterator[str]:
    if isinstance(event, ModelsPromoted):
        for move in event.moves:
            yield from _alias_and_version(move.alias, move.version)
        for condition in event.conditions:
            yield from _alias_and_version(condition.alias, condition.version)
        return
    version, kind = getattr(event, "version", None), event.subject.rpartition(".")[2]
    own = "" if version is None else f"{_VERSION}{version}."
    alias = getattr(event, "alias", None)
    if alias is not None:
        yield from _alias_and_version(alias, version)
    elif version is not None and kind == "ModelVersionDeleted":
        yield own.removesuffix(".")
    for group in ("params", "tags"):
        yield from (f"{own}{group}.{key}" for key in getattr(event, group, None) or ())
    yield from (f"{own}tags.{key}" for key in getattr(event, "keys", ()))
    yield from (f"{own}{name}" for name in _HEADS if getattr(event, name, None) is not None)
    if getattr(event, "end_ms", None) is not None or (kind == "RunUpdated" and event.status == "RUNNING"):
        yield "end_time"
    if kind.endswith(("Created", "Renamed")) or (kind in _MAY_RENAME and event.name is not None):
        yield "name"
    if kind.endswith(("Deleted", "Restored")):
        yield "lifecycle_stage"


def _alias_and_version(alias: str | None, version: int | None) -> Iterator[str]:
    if alias is not None:
        yield f"{_ALIAS}{alias}"
    if version is not None:
        yield f"{_VERSION}{version}"


_MAY_RENAME = ("RunUpdated", "WebhookUpdated")
_HEADS = ("status", "stage", "description", "url", "kinds", "active")
