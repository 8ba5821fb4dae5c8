"""Events on their way over HTTP: ready records, which the API checks and passes on without encoding them anew."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fastavro

from .errors import BadRecord, Reason
from .topics import Topic

CONTENT_TYPE = "application/vnd.runfold.events+avro"
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_BATCH_RECORDS = 10_000

BATCH_SCHEMA: Any = fastavro.parse_schema(
    {
        "type": "array",
        "items": {
            "type": "record",
            "name": "runfold.http.Outgoing",
            "fields": [
                {"name": "topic", "type": "string"},
                {"name": "key", "type": "bytes"},
                {"name": "value", "type": "bytes"},
                {
                    "name": "headers",
                    "type": {
                        "type": "array",
                        "items": {
                            "type": "record",
                            "name": "Header",
                            "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": "bytes"}],
                        },
                    },
                },
            ],
        },
    }
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record that is ready to be appended."""

    topic: Topic
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


def encode_batch(records: Sequence[Outgoing]) -> bytes:
    """Body of a request that appends these records in order."""
    out = io.BytesIO()
    rows = [
        {
            "topic": r.topic.value,
            "key": r.key,
            "value": r.value,
            "headers": [{"name": name, "value": value} for name, value in r.headers],
        }
        for r in records
    ]
    fastavro.schemaless_writer(out, BATCH_SCHEMA, rows)
    return out.getvalue()


def decode_batch(body: bytes) -> list[Outgoing]:
    """Records of a request body; BadRecord names what is wrong with it."""
    if len(body) > MAX_BATCH_BYTES:
        raise BadRecord(Reason.TOO_LARGE, f"a batch of {len(body)} bytes; at most {MAX_BATCH_BYTES} are taken")
    source = io.BytesIO(body)
    try:
        rows: Any = fastavro.schemaless_reader(source, BATCH_SCHEMA, None)
    # As in wire: broken bytes make fastavro raise almost anything.
    except Exception as error:
        raise BadRecord(Reason.BODY, f"the batch does not decode: {type(error).__name__}: {error}") from None
    if source.tell() != len(body):
        raise BadRecord(Reason.TRAILING_BYTES, f"{len(body) - source.tell()} bytes follow the batch")
    if len(rows) > MAX_BATCH_RECORDS:
        raise BadRecord(Reason.TOO_LARGE, f"{len(rows)} records in a batch; at most {MAX_BATCH_RECORDS} are taken")
    return [_outgoing(row) for row in rows]


def _outgoing(row: dict[str, Any]) -> Outgoing:
    try:
        topic = Topic(row["topic"])
    except ValueError:
        raise BadRecord(Reason.TYPE_NOT_ALLOWED, f"topic {row['topic']!r}: one of {', '.join(Topic)}") from None
    return Outgoing(topic, row["key"], row["value"], [(h["name"], h["value"]) for h in row["headers"]])
