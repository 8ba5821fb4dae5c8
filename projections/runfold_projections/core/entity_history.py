"""The history of an entity: its accepted events, one state after the other, and the fields of each state."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar

from runfold_projections.core.projection import Projection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Record
from runfold_schemas.codec.wire import FRAME_BYTES, schema_id_of
from runfold_schemas.events.all_events import FACTS
from runfold_schemas.events.base import Fact
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.vector import Vector

S = TypeVar("S")
FieldValues = Mapping[str, Any]
"""Values by field name. A field without a value is absent."""
Step = tuple[Iterable[str], Callable[[], S]]
"""The fields that an event may change, and the function that makes the change.

The state from before is invalid after it.
"""
Skippable = Mapping[type[Fact], str | None]
"""Event types that need not be decoded to fold one field: those that do not contain this text, or (None) all of the
type."""


class EntityHistory(ABC, Generic[S]):
    """How to fold one entity's journal: its own accepted events, which need nothing of other entities."""

    projection: Projection
    entity: str
    """Name of the entity in the journal."""
    heads: ClassVar[tuple[str, ...]] = ()
    """Fields that events set by an attribute of the same name, beside `params`, `tags` and `keys`."""

    def partition(self, vector: Vector) -> Partition:
        """Return the partition that holds all of the entity's events."""
        return Partition(self.projection.topic, 0)

    def end_offset(self, vector: Vector) -> int:
        """Return where the entity's partition ends at the moment of a vector."""
        return vector.get(self.partition(vector), 0)

    @abstractmethod
    def start(self) -> S:
        """Return the state before the first event."""

    @abstractmethod
    def decode(self, data: bytes) -> S:
        """Decode a state that the journal kept."""

    @abstractmethod
    def step(self, state: S, record: Record) -> Step[S]:
        """Fold an accepted event."""

    @abstractmethod
    def fields(self, state: S) -> dict[str, Any]:
        """Return all fields that have a value."""

    def value(self, state: S, name: str) -> Any:
        """Return the value of one field; None where it has none."""
        return self.fields(state).get(name)

    def skippable(self, name: str) -> Skippable:
        """Return the events without which a field is folded to the same values at the same events."""
        return {}

    def narrowed(self, record: Record, name: str) -> Record:
        """Reduce an event to one field, so that skipped events can't make the fold reject it."""
        return record

    def requested_fields(self, event: Any) -> Iterator[str]:
        """Return the fields that an event asks to change, whether it was accepted or rejected."""
        return requested_fields(event, self.heads)


def requested_fields(event: Any, heads: Iterable[str], prefix: str = "") -> Iterator[str]:
    """Return the fields, with a prefix, that an event asks to change: by its attributes and the name of its type."""
    for group in ("params", "tags"):
        yield from (f"{prefix}{group}.{key}" for key in getattr(event, group, None) or ())
    yield from (f"{prefix}tags.{key}" for key in getattr(event, "keys", ()))
    yield from (f"{prefix}{name}" for name in heads if getattr(event, name, None) is not None)
    if event.subject.endswith(("Created", "Renamed")):
        yield "name"
    if event.subject.endswith(("Deleted", "Restored")):
        yield "lifecycle_stage"


def skip_filter(skippable: Skippable) -> Callable[[bytes], bool]:
    """Return a test on an event's value in the log: whether it can be skipped.

    An Avro body holds texts as their UTF-8.
    """
    catalog, known = released_catalog(), dict[bytes, bytes | None]()
    texts = {event: b"" if text is None else text.encode(errors="surrogatepass") for event, text in skippable.items()}

    def can_skip(value: bytes) -> bool:
        # The five bytes before the Avro body name the schema.
        frame = value[:FRAME_BYTES]
        if frame not in known:
            event = FACTS.get(catalog.get(schema_id_of(value)).subject)
            known[frame] = None if event is None else texts.get(event)
        text = known[frame]
        return text is not None and (not text or text not in value)

    return can_skip


def with_one_key(record: Record, key: str) -> Record:
    """Reduce a deletion of several keys to one of this key, or of none."""
    event: Any = record.event
    return replace(record, event=event.model_copy(update={"keys": [one for one in event.keys if one == key]}))


def without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def field_changes(before: FieldValues, after: FieldValues) -> Iterator[dict[str, Any]]:
    """Yield the fields that differ, each with its value before and after; null where it had none."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield {"field": name, "from": old, "to": new}
