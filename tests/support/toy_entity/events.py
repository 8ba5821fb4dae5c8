"""Events of toys, on the `registry` topic."""

from runfold_schemas.events.base import Fact, Name, RunId


class ToyFact(Fact):
    """Base of the events about one toy. They are keyed by the workspace, as all of their topic."""

    toy_id: RunId


class ToyMade(ToyFact):
    subject = "runfold.registry.ToyMade"
    name: Name
    color: Name


class ToyPainted(ToyFact):
    subject = "runfold.registry.ToyPainted"
    color: Name


class ToyBroken(ToyFact):
    subject = "runfold.registry.ToyBroken"


EVENTS: tuple[type[ToyFact], ...] = (ToyMade, ToyPainted, ToyBroken)
