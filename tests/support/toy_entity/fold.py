"""The fold of toys: an id is given once, and a broken toy can't be painted."""

from dataclasses import dataclass, replace

from runfold_projections.core.rejection import Rejection
from runfold_schemas.codec.record import Record

from .events import ToyBroken, ToyFact, ToyMade, ToyPainted
from .rejections import ToyRejection


@dataclass(frozen=True, slots=True)
class Toy:
    """A toy as folded; `made_ms` by the writer's clock."""

    toy_id: str
    name: str
    color: str
    made_ms: int
    is_broken: bool = False


def fold(toy: Toy | None, record: Record) -> Toy | Rejection:
    """Return the toy after an event, or why the event is rejected."""
    event = record.event
    assert isinstance(event, ToyFact), event
    if isinstance(event, ToyMade):
        if toy is not None:
            return Rejection(ToyRejection.EXISTS, f"toy {event.toy_id} exists")
        return Toy(event.toy_id, event.name, event.color, record.envelope.time_ms)
    if toy is None or toy.is_broken:
        return Rejection(ToyRejection.NOT_FOUND, f"there is no toy {event.toy_id}")
    if isinstance(event, ToyPainted):
        return replace(toy, color=event.color)
    assert isinstance(event, ToyBroken), event
    return replace(toy, is_broken=True)
