"""An event of a story as JSON."""

from typing import Any, Literal

from pydantic import BaseModel

from runfold_projections.history.journal_reader import HistoryEvent
from runfold_schemas.codec.wire import decode
from runfold_schemas.positions.position import Position

Json = dict[str, Any]
OutcomeName = Literal["accepted", "rejected"]


def said(history_event: HistoryEvent) -> Json:
    """An event: where, when, who, what, and what the fold said of it."""
    where, entry = history_event
    event: Any = decode(entry.value)
    payload = event.model_dump(mode="json", by_alias=True) if isinstance(event, BaseModel) else {}
    # Where the store keeps the bytes is nobody's business but the server's.
    payload.pop("object_key", None)
    refused = {"code": entry.code, "message": entry.message} if entry.code else {}
    return {
        "position": str(Position(*where, entry.offset)),
        "broker_ms": entry.broker_ms,
        "event_ms": entry.time_ms,
        "event_id": entry.event_id,
        "type": event.subject,
        "actor": entry.actor,
        "writer": {
            "id": entry.writer,
            "node": entry.node,
            "rank": entry.rank,
            "attempt": entry.attempt,
            "sequence": entry.sequence,
        },
        "correlation_id": entry.correlation_id or None,
        "causation_id": entry.causation_id or None,
        "payload": payload,
        "outcome": "rejected" if entry.code else "accepted",
        **refused,
    }
