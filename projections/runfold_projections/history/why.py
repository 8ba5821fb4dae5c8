"""Why a field has its value: the events that set it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from runfold_projections.core.entity_history import EntityHistory, skip_filter
from runfold_projections.postgres.connection import Connection

from .journal_reader import HistoryEvent
from .timeline import load_accepted

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class FieldSetting:
    """An event that set a field, with the value before and after."""

    event: HistoryEvent
    before: Any
    after: Any


async def field_settings(
    connection: Connection, history: EntityHistory[S], name: str, end_offset: int
) -> list[FieldSetting]:
    """Return the events that set a field below an end offset, the newest first: it set the value as of that offset."""
    events = await load_accepted(connection, history, 0, end_offset)
    return await asyncio.to_thread(settings_among, history, events, name)


def settings_among(history: EntityHistory[S], events: Sequence[HistoryEvent], name: str) -> list[FieldSetting]:
    """Return those of all accepted events that set a field, the newest first.

    Decodes only events that may concern it.
    """
    found, state, can_skip = [], history.start(), skip_filter(history.skippable(name))
    for event in events:
        if can_skip(event.entry.value):
            continue
        record = history.narrowed(event.entry.record(event.where), name)
        _, change = history.step(state, record)
        before = history.value(state, name)
        state = change()
        after = history.value(state, name)
        if before != after:
            found.append(FieldSetting(event, before, after))
    return found[::-1]
