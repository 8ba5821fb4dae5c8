"""What all stories share: an entity's accepted events, one state after the other, and the fields of a state."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from runfold_projections.generations.generations import Projection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Record
from runfold_schemas.codec.wire import FRAME_BYTES, schema_id_of
from runfold_schemas.events.all_events import FACTS
from runfold_schemas.events.base import Fact
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.vector import Vector

S = TypeVar("S")
Fields = Mapping[str, Any]
"""Values by field; a field that is not there has none."""
Step = tuple[Iterable[str], Callable[[], S]]
"""The fields that an event may change, and what makes the change; the state from before must not be used after it."""
Unread = Mapping[type[Fact], str | None]
"""Types of events that need not be read where one field alone is asked for: those without this text in them, or (None) all."""


class Story(ABC, Generic[S]):
    """How to read one entity's journal: accepted events of its own, which need nothing of other entities."""

    projection: Projection
    entity: str

    def where(self, vector: Vector) -> Partition:
        """The partition that all of the entity's events lie in."""
        return Partition(self.projection.topic, 0)

    @abstractmethod
    def start(self) -> S:
        """The entity before its first event."""

    @abstractmethod
    def read(self, data: bytes) -> S:
        """A state that the journal kept."""

    @abstractmethod
    def step(self, state: S, record: Record) -> Step[S]:
        """What an accepted event does."""

    @abstractmethod
    def fields(self, state: S) -> dict[str, Any]:
        """All fields that have a value."""

    def value(self, state: S, name: str) -> Any:
        """One field; None where it has no value."""
        return self.fields(state).get(name)

    def unread(self, name: str) -> Unread:
        """Events without which a field is folded to the same values at the same events."""
        return {}

    def alone(self, record: Record, name: str) -> Record:
        """The event, without what could be refused for want of what was left unread."""
        return record


def passed_over(unread: Unread) -> Callable[[bytes], bool]:
    """Whether an event, given as its value in the log, need not be read. Texts lie in an Avro body as their UTF-8."""
    catalog, known = released_catalog(), dict[bytes, bytes | None]()
    wanted = {event: b"" if text is None else text.encode(errors="surrogatepass") for event, text in unread.items()}

    def passes(value: bytes) -> bool:
        # The frame before the Avro body says the schema.
        frame = value[:FRAME_BYTES]
        if frame not in known:
            event = FACTS.get(catalog.get(schema_id_of(value)).subject)
            known[frame] = None if event is None else wanted.get(event)
        text = known[frame]
        return text is not None and (not text or text not in value)

    return passes


def of_one_key(record: Record, key: str) -> Record:
    """A deletion of several keys as one of this key alone, or of none."""
    event: Any = record.event
    return replace(record, event=event.model_copy(update={"keys": [one for one in event.keys if one == key]}))


def there(found: dict[str, Any]) -> dict[str, Any]:
    """Those fields that have a value."""
    return {name: value for name, value in found.items() if value is not None}


def changed(before: Fields, after: Fields) -> Iterator[dict[str, Any]]:
    """The fields that differ: each with its value before and after, null where it had none."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield {"field": name, "from": old, "to": new}
