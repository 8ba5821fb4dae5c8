"""Toys into their table."""

from collections.abc import Sequence
from dataclasses import astuple

from runfold_projections.core.projector import MOST_CACHED, Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record

from .events import ToyFact
from .fold import Toy, fold
from .state import encode_toy

_PREFIX = "toy:"


def toy_entity(toy_id: str) -> str:
    """Return the name of a toy in the journal."""
    return f"{_PREFIX}{toy_id}"


class ToysProjector(Projector):
    """Toys by id. One that was looked up and not found is remembered as absent."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._toys: dict[str, Toy | None] = {}
        self._changed: dict[str, Toy] = {}

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        if len(self._toys) > MOST_CACHED:
            self.forget()
        wanted = {record.event.toy_id for record in records if isinstance(record.event, ToyFact)}
        missing = sorted(wanted - self._toys.keys())
        self._toys.update(dict.fromkeys(missing))
        for row in await connection.fetch(
            "SELECT toy_id, name, color, made_ms, is_broken FROM toy WHERE toy_id = ANY ($1::text[])", missing
        ):
            self._toys[row["toy_id"]] = Toy(*row.values())

    def fold(self, record: Record) -> Rejection | None:
        assert isinstance(record.event, ToyFact), record.event
        answer = fold(self._toys[record.event.toy_id], record)
        if isinstance(answer, Rejection):
            return answer
        self._toys[answer.toy_id] = self._changed[answer.toy_id] = answer
        return None

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        assert isinstance(record.event, ToyFact), record.event
        return (toy_entity(record.event.toy_id),)

    def state(self, entity: str) -> bytes | None:
        toy = self._toys.get(entity.removeprefix(_PREFIX)) if entity.startswith(_PREFIX) else None
        return None if toy is None else encode_toy(toy)

    def changes(self) -> list[RowChange]:
        changed, self._changed = self._changed, {}
        return [RowChange(_SAVE, columns([astuple(toy) for toy in changed.values()]))] if changed else []


_SAVE = """
INSERT INTO toy (toy_id, name, color, made_ms, is_broken)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::boolean[]) WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (toy_id) DO UPDATE SET color = excluded.color, is_broken = excluded.is_broken
"""
