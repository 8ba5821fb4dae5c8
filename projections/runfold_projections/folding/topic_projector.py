"""The projector of a projection that several entities make up: each sees only the records of its own events."""

from collections.abc import Iterable, Iterator, Sequence

from runfold_projections.core.entity import Entity
from runfold_projections.core.projector import Projector, Rereading, StateAt
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition


def projector_for(entities: Sequence[Entity], where: Partition) -> Projector:
    """Return a projector with empty memory for the entities of one projection."""
    parts = [(entity.facts, entity.projector(where)) for entity in entities]
    if len(parts) == 1:
        return parts[0][1]
    rereading = any(isinstance(part, Rereading) for _, part in parts)
    return RereadingTopicProjector(parts) if rereading else TopicProjector(parts)


class TopicProjector(Projector):
    """Hands each record to the one entity that its event is of.

    No entity knows of another: the APIs check what spans several of them, and queries join it.
    """

    def __init__(self, parts: Iterable[tuple[tuple[type, ...], Projector]]) -> None:
        self._by_facts = list(parts)
        self._parts = [part for _, part in self._by_facts]
        self._by_type: dict[type, Projector | None] = {}

    def _part_of(self, record: Record) -> Projector | None:
        kind = type(record.event)
        if kind not in self._by_type:
            self._by_type[kind] = next((part for facts, part in self._by_facts if issubclass(kind, facts)), None)
        return self._by_type[kind]

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        own: dict[int, list[Record]] = {}
        for record in records:
            part = self._part_of(record)
            if part is not None:
                own.setdefault(id(part), []).append(record)
        for part in self._parts:
            if id(part) in own:
                await part.load(connection, own[id(part)])

    def fold(self, record: Record) -> Rejection | None:
        part = self._part_of(record)
        if part is None:
            assert isinstance(record.event, Genesis), record.event
            return None
        return part.fold(record)

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        part = self._part_of(record)
        return () if part is None else part.touched(record, rejection)

    def state(self, entity: str) -> bytes | None:
        return next((state for part in self._parts if (state := part.state(entity)) is not None), None)

    async def load_deferred(self, connection: Connection) -> None:
        for part in self._parts:
            await part.load_deferred(connection)

    def changes(self) -> list[RowChange]:
        return [change for part in self._parts for change in part.changes()]

    def repeated(self, offsets: Sequence[int]) -> list[RowChange]:
        return [change for part in self._parts for change in part.repeated(offsets)]

    def committed(self) -> None:
        for part in self._parts:
            part.committed()

    def forget(self) -> None:
        for part in self._parts:
            part.forget()


class RereadingTopicProjector(TopicProjector):
    """A TopicProjector with entities that are only partly in memory."""

    async def reread(self, connection: Connection, entity: str) -> StateAt | None:
        for part in self._rereading():
            state_at = await part.reread(connection, entity)
            if state_at is not None:
                return state_at
        return None

    def _rereading(self) -> Iterator[Rereading]:
        for part in self._parts:
            if isinstance(part, Rereading):
                yield part
