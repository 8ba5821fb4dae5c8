"""What became of an event, once the checkpoint has passed it."""

from dataclasses import dataclass
from typing import Any

from runfold_schemas.position import Position

from ..database import Connection


@dataclass(frozen=True, slots=True)
class Refused:
    """The fold rejected the event, or it was set aside. `code` is a RejectionCode, or `set_aside`."""

    code: str
    message: str
    details: dict[str, Any]


async def refusal(connection: Connection, position: Position) -> Refused | None:
    """Why the event at this position had no effect; None means accepted, if the checkpoint has passed it."""
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
    return None if row is None else Refused(row["code"], row["message"], row["details"])
