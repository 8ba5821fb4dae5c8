"""What differs about an entity between two moments of the log."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from runfold_projections.core.entity_history import EntityHistory, FieldValues
from runfold_projections.postgres.connection import Connection

from .journal_reader import HistoryEvent, load_replay
from .timeline import fold_events, load_accepted, state_at, walk

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field that differs between two moments, and the event that gave it its later value."""

    field: str
    before: Any
    after: Any
    event: HistoryEvent | None


async def differences_between(
    connection: Connection, history: EntityHistory[S], first: int, end_offset: int
) -> list[FieldDifference]:
    """Compare the entity as of two end offsets of its partition, field by field; `first` may be the later one."""
    early, late = sorted((first, end_offset))
    replay = await load_replay(connection, history.projection, history.entity, early)
    events = await load_accepted(connection, history, early, late)
    found = await asyncio.to_thread(_compare_states, history, replay.state, replay.events, events)
    if first > end_offset:
        # Backwards in time no event made the change: undoing the same events did.
        return [FieldDifference(one.field, one.after, one.before, one.event) for one in found]
    return found


async def differences_to_successor(
    connection: Connection, old: EntityHistory[S], first: int, new: EntityHistory[S], end_offset: int
) -> list[FieldDifference]:
    """Compare an entity as of one offset with another, as of a later offset, that has taken its name.

    A field's later value comes with the event that set it; a missing one with the event by which the old entity lost
    its name.
    """
    before = old.fields(await state_at(connection, old, first))
    accepted = await load_accepted(connection, new, 0, end_offset)
    loss = await _name_loss(connection, old, first, end_offset)
    return await asyncio.to_thread(_compare_with_successor, before, loss, new, accepted)


def _compare_with_successor(
    before: FieldValues, loss: HistoryEvent | None, new: EntityHistory[S], accepted: Sequence[HistoryEvent]
) -> list[FieldDifference]:
    after: dict[str, tuple[Any, HistoryEvent | None]] = {}
    for event, changes in walk(new, new.start(), accepted):
        after |= {one["field"]: (one["to"], event) for one in changes}
    found: list[FieldDifference] = []
    for name in sorted({*before, *after}):
        value, cause = after.get(name, (None, loss))
        if before.get(name) != value:
            found.append(FieldDifference(name, before.get(name), value, loss if value is None else cause))
    return found


async def _name_loss(
    connection: Connection, history: EntityHistory[S], first: int, end_offset: int
) -> HistoryEvent | None:
    """Return the first event from an offset on that changes the entity's name."""
    replay = await load_replay(connection, history.projection, history.entity, first)
    events = await load_accepted(connection, history, first, end_offset)

    def search() -> HistoryEvent | None:
        state = fold_events(history, replay.state, replay.events)
        return next(
            (event for event, changes in walk(history, state, events) if any(c["field"] == "name" for c in changes)),
            None,
        )

    return await asyncio.to_thread(search)


def _compare_states(
    history: EntityHistory[S], kept: bytes | None, before: Sequence[HistoryEvent], events: Sequence[HistoryEvent]
) -> list[FieldDifference]:
    state = fold_events(history, kept, before)
    first: dict[str, Any] = {}
    last: dict[str, tuple[Any, HistoryEvent]] = {}
    for event, changes in walk(history, state, events):
        for one in changes:
            first.setdefault(one["field"], one["from"])
            last[one["field"]] = (one["to"], event)
    return [
        FieldDifference(name, first[name], value, event)
        for name, (value, event) in sorted(last.items())
        if first[name] != value
    ]
