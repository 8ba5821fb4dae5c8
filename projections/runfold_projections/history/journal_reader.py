"""Reading the journal: an entity's events, and the entity as it was."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from runfold_projections.generations.generations import Projection
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.position import Partition

from .journal import Entry, read_entries, unsqueezed


class Told(NamedTuple):
    """An event of an entity and the partition that it lies in."""

    where: Partition
    entry: Entry


class Past(NamedTuple):
    """What an entity went through up to a moment: a state (None: from its beginning) and the accepted events after it."""

    state: bytes | None
    events: list[Told]


async def past_of(connection: Connection, projection: Projection, entity: str, below: int) -> Past:
    """The entity's story below an offset of its partition. One round trip."""
    if not storable(entity) or below <= 0:
        return Past(None, [])
    state: bytes | None = None
    since, events = 0, []
    for first, partition, data in await connection.fetch(_of(projection, _PAST), entity, below):
        if partition is None:
            state, since = unsqueezed(data), first
        else:
            events += _told(projection, partition, data)
    return Past(state, [told for told in events if since <= told.entry.offset < below and not told.entry.code])


async def events_of(
    connection: Connection, projection: Projection, entity: str, *, first: int = 0, below: int, rows: int, newest: bool
) -> list[Told]:
    """Events of an entity, refused ones too, at offsets from `first` on and below `below`, in the log's order or the newest first: those
    of about `rows` batches. Fewer than there are is never none."""
    if not storable(entity):
        return []
    found = await connection.fetch(_of(projection, _NEWEST_EVENTS if newest else _EVENTS), entity, first, below, rows)
    events = [told for row in found for told in _told(projection, row["partition"], row["data"])]
    events = [told for told in events if first <= told.entry.offset < below]
    return sorted(events, key=lambda told: told.entry.offset, reverse=newest)


async def caused_by(connection: Connection, event_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Of each of these events the entities and positions of those that name it as their cause."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in await connection.fetch(_CAUSED, event_ids):
        position = f"{row['projection']}:{row['partition']}:{row['log_offset']}"
        found.setdefault(row["causation_id"], []).append({"entity": row["entity"], "position": position})
    return found


def _told(projection: Projection, partition: int, data: bytes) -> list[Told]:
    where = Partition(projection.topic, partition)
    return [Told(where, entry) for entry in read_entries(data)]


_PAST = """
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
WHERE projection = :projection AND entity = $1 AND last_offset >= $2 AND first_offset < $3 ORDER BY first_offset LIMIT $4
"""
_NEWEST_EVENTS = _EVENTS.replace("ORDER BY first_offset", "ORDER BY first_offset DESC")
_CAUSED = """
SELECT projection, causation_id, entity, partition, log_offset FROM journal_cause
WHERE causation_id = ANY ($1::text[]) ORDER BY projection, partition, log_offset, entity
"""


@lru_cache
def _of(projection: Projection, text: str) -> str:
    # As a constant in the text, where the planner sees which of the view's tables it needs.
    return text.replace(":projection", f"'{projection.value}'")
