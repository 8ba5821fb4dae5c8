"""Of an experiment."""

from typing import Any

from runfold_projections.core.rejection import Rejection
from runfold_projections.generations.generations import Projection
from runfold_projections.history.entity_history import Step, Story, Unread, of_one_key
from runfold_projections.history.state_codec import read_experiment
from runfold_schemas.codec.record import Record
from runfold_schemas.events.experiments import ExperimentTagsDeleted, ExperimentTagsSet

from . import fold


class ExperimentStory(Story[fold.Experiment | None]):
    """The story of one experiment."""

    projection = Projection.EXPERIMENTS

    def __init__(self, experiment_id: int) -> None:
        self.entity, self._id = str(experiment_id), experiment_id

    def start(self) -> fold.Experiment | None:
        return None

    def read(self, data: bytes) -> fold.Experiment | None:
        return read_experiment(data)

    def step(self, state: fold.Experiment | None, record: Record) -> Step[fold.Experiment | None]:
        # Alone: what it could have to do with others was decided when its events were accepted.
        alone = fold.Experiments(next_id=self._id)
        if state is not None:
            alone.put(state)
        answer = fold.fold(alone, record)
        after = state if isinstance(answer, Rejection) else answer
        return {**self.fields(state), **self.fields(after)}, lambda: after

    def fields(self, state: fold.Experiment | None) -> dict[str, Any]:
        if state is None:
            return {}
        return {name: getattr(state, name) for name in _HEAD} | {
            f"tags.{key}": value for key, value in state.tags.items()
        }

    def value(self, state: fold.Experiment | None, name: str) -> Any:
        if state is None:
            return None
        if name in _HEAD:
            return getattr(state, name)
        return state.tags.get(name.removeprefix("tags.")) if name.startswith("tags.") else None

    def unread(self, name: str) -> Unread:
        key = name.removeprefix("tags.") if name.startswith("tags.") else None
        return {ExperimentTagsSet: key, ExperimentTagsDeleted: key}

    def alone(self, record: Record, name: str) -> Record:
        is_deletion = isinstance(record.event, ExperimentTagsDeleted)
        return of_one_key(record, name.removeprefix("tags.")) if is_deletion else record


_HEAD = ("name", "lifecycle_stage", "artifact_location")
