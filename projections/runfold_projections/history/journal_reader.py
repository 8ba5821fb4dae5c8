"""Reading the journal: an entity's events, and what to fold to get the entity as it was."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.position import Partition

from .journal import JournalEntry, decode_entries, decompress


class HistoryEvent(NamedTuple):
    """An event of an entity, and the partition that holds it."""

    where: Partition
    entry: JournalEntry


class Replay(NamedTuple):
    """What to fold to get an entity as of an offset: a kept state (None: empty) and the accepted events after it."""

    state: bytes | None
    events: list[HistoryEvent]


async def load_replay(connection: Connection, projection: Projection, entity: str, end_offset: int) -> Replay:
    """Load what the entity was below an end offset of its partition. One round trip."""
    if not storable(entity) or end_offset <= 0:
        return Replay(None, [])
    state: bytes | None = None
    since, events = 0, []
    for first, partition, data in await connection.fetch(_statement(projection, _REPLAY), entity, end_offset):
        if partition is None:
            state, since = decompress(data), first
        else:
            events += _events_of(projection, partition, data)
    return Replay(state, [e for e in events if since <= e.entry.offset < end_offset and not e.entry.code])


async def load_events(
    connection: Connection,
    projection: Projection,
    entity: str,
    *,
    first: int = 0,
    end_offset: int,
    rows: int,
    newest: bool,
) -> list[HistoryEvent]:
    """Load events of an entity, rejected ones too, at offsets from `first` and below `end_offset`.

    In the log's order, or the newest first. Loads those of about `rows` batches; never none where there are some.
    """
    if not storable(entity):
        return []
    statement = _statement(projection, _NEWEST_EVENTS if newest else _EVENTS)
    found = await connection.fetch(statement, entity, first, end_offset, rows)
    events = [event for row in found for event in _events_of(projection, row["partition"], row["data"])]
    events = [event for event in events if first <= event.entry.offset < end_offset]
    return sorted(events, key=lambda event: event.entry.offset, reverse=newest)


async def load_consequences(connection: Connection, event_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Load, by event id, the entities and positions of the events that name it as their cause."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in await connection.fetch(_CONSEQUENCES, event_ids):
        position = f"{row['projection']}:{row['partition']}:{row['log_offset']}"
        found.setdefault(row["causation_id"], []).append({"entity": row["entity"], "position": position})
    return found


def _events_of(projection: Projection, partition: int, data: bytes) -> list[HistoryEvent]:
    where = Partition(projection.topic, partition)
    return [HistoryEvent(where, entry) for entry in decode_entries(data)]


@lru_cache
def _statement(projection: Projection, text: str) -> str:
    # A constant in the text lets the planner see which of the view's tables it needs.
    return text.replace(":projection", f"'{projection.value}'")


_REPLAY = """
WITH state AS (
    SELECT next_offset, data FROM journal_state
    WHERE projection = :projection AND entity = $1 AND next_offset <= $2 ORDER BY next_offset DESC LIMIT 1
), begin AS (
    SELECT j.first_offset FROM journal j
    WHERE j.projection = :projection AND j.entity = $1 AND j.first_offset <= (SELECT next_offset FROM state)
    ORDER BY j.first_offset DESC LIMIT 1
)
SELECT next_offset, NULL::integer, data FROM state
UNION ALL (
    SELECT j.first_offset, j.partition, j.data FROM journal j
    WHERE j.projection = :projection AND j.entity = $1 AND j.first_offset < $2
      AND j.first_offset >= coalesce((SELECT first_offset FROM begin), 0)
    ORDER BY j.first_offset
)
"""
_EVENTS = """
SELECT partition, data FROM journal
WHERE projection = :projection AND entity = $1 AND last_offset >= $2 AND first_offset < $3
ORDER BY first_offset LIMIT $4
"""
_NEWEST_EVENTS = _EVENTS.replace("ORDER BY first_offset", "ORDER BY first_offset DESC")
_CONSEQUENCES = """
SELECT projection, causation_id, entity, partition, log_offset FROM journal_cause
WHERE causation_id = ANY ($1::text[]) ORDER BY projection, partition, log_offset, entity
"""
