"""Outcomes of events, known once the checkpoint has passed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition, Position

SET_ASIDE = "set_aside"
"""Code of an event that became a dead letter."""


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """The fold rejected the event, or it was set aside. `code` is a RejectionCode, or SET_ASIDE."""

    code: str
    message: str
    details: dict[str, Any]


async def read_rejection(connection: Connection, position: Position) -> RejectedEvent | None:
    """Return why the event at a position had no effect; None: it is accepted, if the checkpoint has passed it."""
    row = await connection.fetchrow(
        """
        SELECT code, message, details FROM rejection
        WHERE topic = $1 AND partition = $2 AND log_offset = $3
        UNION ALL
        SELECT 'set_aside', reason || ': ' || message, '{}'::jsonb FROM set_aside
        WHERE topic = $1 AND partition = $2 AND log_offset = $3
        """,
        position.topic.value,
        position.partition,
        position.offset,
    )
    return None if row is None else RejectedEvent(row["code"], row["message"], row["details"])


async def read_outcomes(
    connection: Connection, where: Partition, offsets: Sequence[int]
) -> tuple[int, dict[int, RejectedEvent]]:
    """Return the partition's checkpoint, and the rejections among these events by their offsets.

    Both are read in one statement, so they are of one moment.
    """
    rows = await connection.fetch(
        """
        SELECT coalesce(c.next_offset, 0) AS next_offset, found.log_offset, found.code, found.message, found.details
        FROM (VALUES (1)) AS one
        LEFT JOIN (SELECT next_offset FROM checkpoint WHERE topic = $1 AND partition = $2) c ON true
        LEFT JOIN (
            SELECT log_offset, code, message, details FROM rejection
            WHERE topic = $1 AND partition = $2 AND log_offset = ANY ($3::bigint[])
            UNION ALL
            SELECT log_offset, 'set_aside', reason || ': ' || message, '{}'::jsonb FROM set_aside
            WHERE topic = $1 AND partition = $2 AND log_offset = ANY ($3::bigint[])
        ) found ON true
        """,
        where.topic.value,
        where.partition,
        offsets,
    )
    refused = {
        row["log_offset"]: RejectedEvent(row["code"], row["message"], row["details"])
        for row in rows
        if row["log_offset"] is not None
    }
    return rows[0]["next_offset"], refused


async def read_rejections(connection: Connection, asked: Sequence[tuple[Position, str]]) -> list[RejectedEvent | None]:
    """Return the rejections of many events, given as position and event id, in their order.

    The fold drops a repeated event. Its outcome is that of the first one, which has the same event id.
    """
    rows = await connection.fetch(
        """
        WITH asked AS (
            SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::uuid[]) WITH ORDINALITY
                AS a (topic, partition, log_offset, event_id, place)
        )
        SELECT a.place, r.code, r.message, r.details
        FROM asked a JOIN rejection r ON r.event_id = a.event_id AND r.topic = a.topic
        UNION ALL
        SELECT a.place, 'set_aside', s.reason || ': ' || s.message, '{}'::jsonb
        FROM asked a JOIN set_aside s USING (topic, partition, log_offset)
        """,
        [position.topic.value for position, _ in asked],
        [position.partition for position, _ in asked],
        [position.offset for position, _ in asked],
        [UUID(event_id) for _, event_id in asked],
    )
    found = {row["place"]: RejectedEvent(row["code"], row["message"], row["details"]) for row in rows}
    return [found.get(place) for place in range(1, len(asked) + 1)]


async def recent_rejections(connection: Connection, limit: int, offset: int) -> list[dict[str, Any]]:
    """List rejected events as JSON-ready rows, latest first; times in ms since the epoch by the broker's clock."""
    rows = await connection.fetch(
        """
        SELECT topic, partition, log_offset, event_id::text AS event_id, entity, code, message, details, broker_ms
        FROM rejection ORDER BY broker_ms DESC, topic, partition, log_offset DESC LIMIT $1 OFFSET $2
        """,
        limit,
        offset,
    )
    return [_listed(row, "event_id", "entity", "code", "message", "details", "broker_ms") for row in rows]


async def recent_dead_letters(connection: Connection, limit: int, offset: int) -> list[dict[str, Any]]:
    """List dead letters as JSON-ready rows, latest first; keys are text, with bytes that aren't UTF-8 escaped."""
    rows = await connection.fetch(
        """
        SELECT topic, partition, log_offset, reason, message, record_key, value_size, broker_ms
        FROM set_aside ORDER BY broker_ms DESC, topic, partition, log_offset DESC LIMIT $1 OFFSET $2
        """,
        limit,
        offset,
    )
    return [
        _listed(row, "reason", "message", "value_size", "broker_ms")
        | {"key": None if row["record_key"] is None else row["record_key"].decode(errors="backslashreplace")}
        for row in rows
    ]


def _listed(row: Any, *columns: str) -> dict[str, Any]:
    position = f"{row['topic']}:{row['partition']}:{row['log_offset']}"
    return {"position": position} | {column: row[column] for column in columns}
