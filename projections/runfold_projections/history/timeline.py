"""Pages of an entity's history, and the entity as of an offset: both folded from its journal."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runfold_projections.core.entity_history import EntityHistory, field_changes
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.vector import Vector

from .field_matching import changes_field, requests_field
from .journal import JournalEntry
from .journal_reader import HistoryEvent, load_consequences, load_events, load_replay

S = TypeVar("S")
Json = dict[str, Any]
ROWS_AT_ONCE = 256
"""Rows of the journal that one statement reads."""
MAX_SCANNED_EVENTS = 5_000
"""Events that one page scans at most.

Where few match, a page may hold fewer than its limit although another follows.
"""


@dataclass(frozen=True, slots=True)
class EventWithChanges:
    """An event in the history of an entity, the fields that it changed, and the events that it caused."""

    event: HistoryEvent
    changes: list[Json] = field(default_factory=list)
    caused: list[Json] = field(default_factory=list)

    @property
    def entry(self) -> JournalEntry:
        return self.event.entry

    @property
    def position(self) -> Position:
        """Position of the event in the log."""
        return Position(*self.event.where, self.event.entry.offset)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Some events. `next_offset`: where the next page starts (newest first: ends, exclusive); None on the last page."""

    events: list[EventWithChanges]
    next_offset: int | None


async def history_page(
    connection: Connection,
    history: EntityHistory[S],
    *,
    first: int,
    end_offset: int,
    limit: int,
    newest: bool,
    matches: Callable[[JournalEntry], bool] = lambda _: True,
    about: str | None = None,
) -> HistoryPage:
    """Read events at offsets from `first` and below `end_offset`, in the log's order or the newest first.

    `about` a field: only the events that changed it, and the rejected ones that asked to.
    """
    at_once = limit if about is None else MAX_SCANNED_EVENTS
    scanned, found, more = await _scan(
        connection, history.projection, history.entity, first, end_offset, at_once, newest, matches
    )
    if not found:
        return HistoryPage([], more)
    at = sorted(event.entry.offset for event in found)
    replay = await load_replay(connection, history.projection, history.entity, at[0])
    between = sorted((e for e in scanned if at[0] <= e.entry.offset <= at[-1] and not e.entry.code), key=_offset)
    changes = await asyncio.to_thread(_changes_by_offset, history, replay.state, replay.events, between)
    if about is not None:
        found = [event for event in found if _concerns(history, about, event, changes.get(event.entry.offset, []))]
        if len(found) > limit:
            more = found[limit - 1].entry.offset + (0 if newest else 1)
            found = found[:limit]
    caused = await load_consequences(connection, [event.entry.event_id for event in found])
    events = [
        EventWithChanges(event, changes.get(event.entry.offset, []), caused.get(event.entry.event_id, []))
        for event in found
    ]
    return HistoryPage(events, more)


async def _scan(
    connection: Connection,
    projection: Projection,
    entity: str,
    first: int,
    end_offset: int,
    limit: int,
    newest: bool,
    matches: Callable[[JournalEntry], bool],
) -> tuple[list[HistoryEvent], list[HistoryEvent], int | None]:
    """Return all events scanned, those that match, and the offset to continue at."""
    scanned: list[HistoryEvent] = []
    found: list[HistoryEvent] = []
    while len(scanned) < MAX_SCANNED_EVENTS:
        some = await load_events(
            connection, projection, entity, first=first, end_offset=end_offset, rows=ROWS_AT_ONCE, newest=newest
        )
        if not some:
            return scanned, found, None
        for event in some:
            if len(found) == limit:
                return scanned, found, event.entry.offset + 1 if newest else event.entry.offset
            scanned.append(event)
            if matches(event.entry):
                found.append(event)
        last = some[-1].entry.offset
        first, end_offset = (first, last) if newest else (last + 1, end_offset)
    return scanned, found, end_offset if newest else first


def _concerns(history: EntityHistory[S], name: str, event: HistoryEvent, changes: Sequence[Json]) -> bool:
    if event.entry.code:
        return requests_field(name, history.requested_fields(event.entry.record(event.where).event))
    return changes_field(name, changes)


def _offset(event: HistoryEvent) -> int:
    return event.entry.offset


def _changes_by_offset(
    history: EntityHistory[S], kept: bytes | None, before: Sequence[HistoryEvent], events: Sequence[HistoryEvent]
) -> dict[int, list[Json]]:
    state = fold_events(history, kept, before)
    return {event.entry.offset: changes for event, changes in walk(history, state, events)}


def walk(
    history: EntityHistory[S], state: S, events: Sequence[HistoryEvent]
) -> Iterator[tuple[HistoryEvent, list[Json]]]:
    """Yield the events, each with the fields that it changes. Computes only."""
    for event in events:
        names, change = history.step(state, event.entry.record(event.where))
        before = {name: history.value(state, name) for name in names}
        state = change()
        yield event, list(field_changes(before, {name: history.value(state, name) for name in before}))


def fold_events(history: EntityHistory[S], kept: bytes | None, events: Sequence[HistoryEvent]) -> S:
    """Fold accepted events onto a kept state (None: onto the empty one). Computes only."""
    state = history.start() if kept is None else history.decode(kept)
    for where, entry in events:
        state = history.step(state, entry.record(where))[1]()
    return state


async def state_at(connection: Connection, history: EntityHistory[S], end_offset: int) -> S:
    """Return the entity as of an end offset of its partition."""
    replay = await load_replay(connection, history.projection, history.entity, end_offset)
    return await asyncio.to_thread(fold_events, history, replay.state, replay.events)


async def load_accepted(
    connection: Connection, history: EntityHistory[S], first: int, end_offset: int
) -> list[HistoryEvent]:
    """Load all accepted events at offsets from `first` and below `end_offset`, in the log's order."""
    found: list[HistoryEvent] = []
    while some := await load_events(
        connection,
        history.projection,
        history.entity,
        first=first,
        end_offset=end_offset,
        rows=ROWS_AT_ONCE,
        newest=False,
    ):
        found += [event for event in some if not event.entry.code]
        first = some[-1].entry.offset + 1
    return found


async def has_history(connection: Connection, history: EntityHistory[Any], end_offset: int) -> bool:
    """Return whether the entity has any event, even if only a rejected one."""
    if not storable(history.entity):
        return False
    return bool(
        await load_events(connection, history.projection, history.entity, end_offset=end_offset, rows=1, newest=False)
    )


async def known_histories(
    connection: Connection, histories: Sequence[EntityHistory[Any]], vector: Vector
) -> Sequence[EntityHistory[Any]] | None:
    """Return an entity's histories if the first one has any event at the moment of a vector; else None."""
    return histories if await has_history(connection, histories[0], histories[0].end_offset(vector)) else None
