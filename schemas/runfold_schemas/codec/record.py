"""From a Kafka record to an event with its envelope and position, with every check that needs no state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from runfold_schemas.errors import BadRecord, Reason
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.topics import Topic, partition_of

from . import wire
from .catalog import Catalog
from .envelope import RULES_VERSION, Envelope
from .headers import parse_headers

KNOWN_RULES = frozenset(range(1, RULES_VERSION + 1))


class RefusedBatch(bytes):
    """Value of the one record that a reader gives for a whole batch of Kafka's which it does not inflate; `why` tells
    the reason.
    """

    why: str

    def __new__(cls, why: str) -> Self:
        """An empty value."""
        made = super().__new__(cls)
        made.why = why
        return made


# Neither is frozen, for the reason that Envelope is not.
@dataclass(slots=True, unsafe_hash=True)
class Raw:
    """A record as Kafka hands it out; `timestamp_ms` is the broker's time.

    `broken` says why the client could not read it, `reason` as what.
    """

    position: Position
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    broken: str = ""
    reason: Reason = Reason.ENVELOPE

    @classmethod
    def of(cls, topic: Topic, message: Any) -> Self:
        """From a consumer record of aiokafka (or anything with its attributes)."""
        position = Position(topic, message.partition, message.offset)
        if isinstance(message.value, RefusedBatch):
            return cls(position, message.timestamp, None, None, (), message.value.why, Reason.TOO_LARGE)
        return cls(position, message.timestamp, message.key, message.value, message.headers)


@dataclass(slots=True, unsafe_hash=True)
class Record:
    """An event at its place in the log."""

    position: Position
    timestamp_ms: int
    envelope: Envelope
    event: Event
    value: bytes = field(default=b"", compare=False, repr=False)
    """As it stands in the log."""

    @property
    def entity(self) -> str:
        """What sequences count by, beside the topic and the writer: the run, or else the workspace."""
        return self.event.entity or self.envelope.workspace


def read_record(raw: Raw, catalog: Catalog, partitions: int) -> Record:
    """Decode and check a record.

    Raises BadRecord for what is to be set aside, UndeclaredSchema for a schema id that the catalog lacks.
    `partitions` is the topic's partition count.
    """
    if raw.broken:
        raise BadRecord(raw.reason, raw.broken)
    schema = catalog.get(wire.schema_id_of(raw.value))
    envelope = parse_headers(raw.headers)
    topic = raw.position.topic
    if envelope.type != schema.subject:
        raise BadRecord(Reason.ENVELOPE, f"header ce_type says {envelope.type}, the schema id says {schema.subject}")
    if topic not in schema.topics:
        raise BadRecord(Reason.TYPE_NOT_ALLOWED, f"{schema.subject} does not belong on {topic.value}")
    if envelope.rules not in KNOWN_RULES:
        raise BadRecord(
            Reason.RULES_VERSION,
            f"rules version {envelope.rules} is not known; this release knows {sorted(KNOWN_RULES)}",
        )
    event = wire.decode_as(raw.value, schema, catalog)
    record = Record(raw.position, raw.timestamp_ms, envelope, event, raw.value or b"")
    if not isinstance(event, Genesis) and topic is not Topic.SYSTEM:
        key = record.entity.encode()
        if raw.key != key:
            raise BadRecord(Reason.KEY_MISMATCH, f"the record's key is {raw.key!r}, the event belongs to {key!r}")
        if partition_of(key, partitions) != raw.position.partition:
            raise BadRecord(
                Reason.WRONG_PARTITION,
                f"key {key!r} belongs to partition {partition_of(key, partitions)} (murmur2, as Kafka's Java client)",
            )
    return record
