"""A record of the log in a stream: its envelope in CloudEvents' JSON form, with its position and, if asked for,
what became of it.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from runfold_projections.operations.outcomes import RejectedEvent
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import format_time
from runfold_schemas.codec.record import Raw, Record, read_record
from runfold_schemas.codec.wire import schema_id_of
from runfold_schemas.errors import BadRecord, SchemaError
from runfold_schemas.events.all_events import Event, as_json
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.positions.position import Position

UNREADABLE = "unreadable"
"""The type of a record that is not an event, or that only a newer release can read."""
ACCEPTED, DUPLICATE = "accepted", "duplicate"
_KEPT = 16 * 1024
"""Bytes of a record's value up to which its JSON is kept for the next stream that sends it."""
Json = dict[str, Any]


class Entry:
    """One record. What it takes to tell it is worked out once, and only for streams that want it."""

    def __init__(self, raw: Raw, partitions: int) -> None:
        """`partitions` is how many the topic has."""
        self.raw = raw
        self._partitions = partitions
        self.outcome = ""
        """Accepted, rejected, set_aside or duplicate; empty where nobody asked, and for records that no fold decides
        about.
        """
        self.refused: RejectedEvent | None = None
        self._encoded: dict[bool, bytes] = {}

    @property
    def position(self) -> Position:
        """The record's place in the log."""
        return self.raw.position

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers as text, whatever they are."""
        return {name: (value or b"").decode(errors="replace") for name, value in self.raw.headers}

    @property
    def type(self) -> str:
        """What the headers say it is."""
        return self.headers.get("ce_type", "")

    @cached_property
    def key(self) -> str:
        """The record's key as text."""
        return (self.raw.key or b"").decode(errors="replace")

    @cached_property
    def record(self) -> Record | SchemaError:
        """The event, or why it can't be read."""
        try:
            return read_record(self.raw, released_catalog(), self._partitions)
        except SchemaError as error:
            return error

    @cached_property
    def nbytes(self) -> int:
        """About what it takes in memory while it waits."""
        size = len(self.raw.value or b"")
        return 1024 + (4 * size if size <= _KEPT else size)

    def encode(self, points: bool) -> tuple[str, bytes]:
        """Return type and JSON; without `points`, the values of metrics are omitted."""
        kind = self.record.event.subject if isinstance(self.record, Record) else UNREADABLE
        data = self._encoded.get(points)
        if data is None:
            data = msgspec.json.encode(self._json(points))
            if len(self.raw.value or b"") <= _KEPT:
                self._encoded[points] = data
        return kind, data

    def _json(self, points: bool) -> Json:
        record = self.record
        said = _event(record, points) if isinstance(record, Record) else _unreadable(self.raw, record)
        said["position"], said["brokertime"] = str(self.raw.position), format_time(self.raw.timestamp_ms)
        if self.outcome:
            said["outcome"] = self.outcome
        if self.refused is not None:
            said["outcomecode"], said["outcomemessage"] = self.refused.code, self.refused.message
        said["data"] = said.pop("data")
        return said


def _event(record: Record, points: bool) -> Json:
    envelope, writer = record.envelope, record.envelope.writer
    said: Json = {
        "specversion": "1.0",
        "id": envelope.event_id,
        "type": envelope.type,
        "source": f"/writers/{writer.id}",
        "subject": record.entity,
        "time": format_time(envelope.time_ms),
        "datacontenttype": "application/json",
        "workspace": envelope.workspace,
        "actor": envelope.actor,
        # CloudEvents' integers have 32 bits.
        "sequence": str(envelope.sequence),
        "rules": envelope.rules,
    }
    optional = {
        "rank": writer.rank,
        "node": writer.node or None,
        "attempt": writer.attempt or None,
        "correlationid": envelope.correlation_id or None,
        "causationid": envelope.causation_id or None,
        "keyid": envelope.key_id or None,
        "traceparent": envelope.traceparent or None,
    }
    said |= {name: value for name, value in optional.items() if value is not None}
    said["data"] = _data(record.event, points)
    return said


def _data(event: Event, points: bool) -> Json:
    if points or not isinstance(event, MetricsLogged):
        return as_json(event)
    frames = [
        {
            "keys": list(frame.keys),
            "rows": frame.rows,
            **({"first_step": frame.steps[0], "last_step": frame.steps[-1]} if frame.rows else {}),
        }
        for frame in event.frames
    ]
    return {"run_id": event.run_id, "frames": frames}


def _unreadable(raw: Raw, error: SchemaError) -> Json:
    reason = error.reason.value if isinstance(error, BadRecord) else "undeclared_schema"
    data: Json = {"reason": reason, "message": str(error), "size": len(raw.value or b"")}
    try:
        data["schema_id"] = schema_id_of(raw.value)
    except BadRecord:
        pass
    return {
        "specversion": "1.0",
        "id": str(raw.position),
        "type": UNREADABLE,
        "source": "/log",
        "datacontenttype": "application/json",
        "data": data,
    }
