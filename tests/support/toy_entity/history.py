"""The history of a toy."""

from typing import Any

from runfold_projections.core.entity import Histories, HistorySubject
from runfold_projections.core.entity_history import EntityHistory, Step
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.history.timeline import known_histories
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .fold import Toy, fold
from .projector import toy_entity
from .state import decode_toy


class ToyHistory(EntityHistory[Toy | None]):
    """The history of one toy."""

    projection = Projection.REGISTRY
    heads = ("color",)

    def __init__(self, toy_id: str) -> None:
        self.entity = toy_entity(toy_id)

    def start(self) -> Toy | None:
        return None

    def decode(self, data: bytes) -> Toy | None:
        return decode_toy(data)

    def step(self, state: Toy | None, record: Record) -> Step[Toy | None]:
        answer = fold(state, record)
        after = state if isinstance(answer, Rejection) else answer
        return {**self.fields(state), **self.fields(after)}, lambda: after

    def fields(self, state: Toy | None) -> dict[str, Any]:
        if state is None:
            return {}
        return {"name": state.name, "color": state.color, "is_broken": state.is_broken}


async def _find(connection: Connection, toy_id: str, vector: Vector) -> Histories | None:
    return await known_histories(connection, (ToyHistory(toy_id),), vector)


SUBJECT = HistorySubject(
    collection="toys",
    parameter="toy_id",
    about="Id of the toy.",
    topics=(Topic.REGISTRY,),
    find=_find,
    missing="There is no toy '{}'",
)
