"""The history of an experiment."""

from typing import Any

from runfold_projections.core.entity import Histories, HistorySubject
from runfold_projections.core.entity_history import EntityHistory, Skippable, Step, with_one_key
from runfold_projections.core.errors import BadQuery
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.history.timeline import known_histories
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.experiments import ExperimentTagsDeleted, ExperimentTagsSet
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from . import fold
from .state import decode_experiment


class ExperimentHistory(EntityHistory[fold.ExperimentState | None]):
    """The history of one experiment."""

    projection = Projection.EXPERIMENTS

    def __init__(self, experiment_id: int) -> None:
        self.entity, self._id = str(experiment_id), experiment_id

    def start(self) -> fold.ExperimentState | None:
        return None

    def decode(self, data: bytes) -> fold.ExperimentState | None:
        return decode_experiment(data)

    def step(self, state: fold.ExperimentState | None, record: Record) -> Step[fold.ExperimentState | None]:
        # Folded alone: conflicts with other experiments were decided when its events were accepted.
        alone = fold.Experiments(next_id=self._id)
        if state is not None:
            alone.put(state)
        answer = fold.fold(alone, record)
        after = state if isinstance(answer, Rejection) else answer
        return {**self.fields(state), **self.fields(after)}, lambda: after

    def fields(self, state: fold.ExperimentState | None) -> dict[str, Any]:
        if state is None:
            return {}
        return {name: getattr(state, name) for name in _HEAD} | {
            f"tags.{key}": value for key, value in state.tags.items()
        }

    def value(self, state: fold.ExperimentState | None, name: str) -> Any:
        if state is None:
            return None
        if name in _HEAD:
            return getattr(state, name)
        return state.tags.get(name.removeprefix("tags.")) if name.startswith("tags.") else None

    def skippable(self, name: str) -> Skippable:
        key = name.removeprefix("tags.") if name.startswith("tags.") else None
        return {ExperimentTagsSet: key, ExperimentTagsDeleted: key}

    def narrowed(self, record: Record, name: str) -> Record:
        is_deletion = isinstance(record.event, ExperimentTagsDeleted)
        return with_one_key(record, name.removeprefix("tags.")) if is_deletion else record


_HEAD = ("name", "lifecycle_stage", "artifact_location")


async def _find(connection: Connection, text: str, vector: Vector) -> Histories | None:
    try:
        number = int(text) if len(text) < 100 else _LARGEST_ID + 1
    except ValueError:
        raise BadQuery(f"Invalid experiment ID '{text}'. Experiment ID must be a valid integer.") from None
    if not 0 <= number <= _LARGEST_ID:
        return None
    return await known_histories(connection, (ExperimentHistory(number),), vector)


_LARGEST_ID = 2**63 - 1


SUBJECT = HistorySubject(
    collection="experiments",
    parameter="experiment_id",
    about="Id of the experiment: a whole number in a string.",
    topics=(Topic.EXPERIMENTS,),
    find=_find,
    missing="No Experiment with id={} exists",
)
