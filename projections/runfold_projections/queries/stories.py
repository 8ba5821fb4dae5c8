"""What happened to an entity: how its events fold, and what it is made of, field by field.

Fields are flat names, as people say them: `status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from runfold_schemas.events import RunFact
from runfold_schemas.logged_models import LoggedModelFact
from runfold_schemas.position import Partition
from runfold_schemas.record import Record
from runfold_schemas.registered_models import ModelsPromoted, RegisteredModelFact
from runfold_schemas.topics import Topic
from runfold_schemas.vector import Vector

from ..folds import experiments, logged_models, runs
from ..folds import registered_models as models
from ..folds.decision import Rejection
from ..generations import Projection
from ..projectors.registered_models import model_entity
from ..states import read_experiment, read_logged_model, read_run
from .born import partition_of_run

S = TypeVar("S")
Fields = Mapping[str, Any]
"""Values by field; a field that is not there has none."""
Step = tuple[Iterable[str], Callable[[], S]]
"""The fields that an event may change, and what makes the change; the state from before must not be used after it."""


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


class RunStory(Story[runs.Run | None]):
    """Of a run: its head, params, tags and inputs. Not its metrics, which have no journal."""

    projection = Projection.RUNS

    def __init__(self, run_id: str) -> None:
        self.entity = run_id

    def where(self, vector: Vector) -> Partition:
        return partition_of_run(vector, Topic.RUNS, self.entity)

    def start(self) -> runs.Run | None:
        return None

    def read(self, data: bytes) -> runs.Run | None:
        return read_run(data)

    def step(self, state: runs.Run | None, record: Record) -> Step[runs.Run | None]:
        if isinstance(record.event, RunFact):
            answer = runs.fold(state, record)
            if not isinstance(answer, Rejection) and (state is not None or answer.head is not None):
                change = answer
                names = [*(_HEAD if change.head is not None else ())]
                names += [f"params.{key}" for key in change.params]
                names += [f"tags.{key}" for key in change.tags]
                names += [f"datasets.{dataset.name}" for dataset in change.datasets]
                names += [f"models.{model}" for model in change.models]
                names += [f"outputs.{model}" for model, _ in change.outputs]
                return names, lambda: runs.evolve(state, change)
        return (), lambda: state

    def fields(self, state: runs.Run | None) -> dict[str, Any]:
        if state is None:
            return {}
        found: dict[str, Any] = {name: get(state.head) for name, get in _HEAD.items()}
        found |= {f"params.{key}": value for key, value in state.params.items()}
        found |= {f"tags.{key}": value for key, value in state.tags.items()}
        found |= {f"datasets.{d.name}": d.digest for d in state.datasets}
        found |= {f"models.{model}": model for model in state.models}
        return _there(found | {f"outputs.{model}": step for model, step in state.outputs})

    def value(self, state: runs.Run | None, name: str) -> Any:
        if state is None:
            return None
        if name in _HEAD:
            return _HEAD[name](state.head)
        kind, _, key = name.partition(".")
        match kind:
            case "params":
                return state.params.get(key)
            case "tags":
                return state.tags.get(key)
            case "datasets":
                return next((d.digest for d in reversed(state.datasets) if d.name == key), None)
            case "models":
                return key if key in state.models else None
            case "outputs":
                return next((step for model, step in reversed(state.outputs) if model == key), None)
        return None


_HEAD: dict[str, Callable[[runs.Head], Any]] = {
    "name": lambda head: head.name,
    "status": lambda head: head.status,
    "lifecycle_stage": lambda head: head.lifecycle_stage,
    "experiment_id": lambda head: str(head.experiment_id),
    "user_id": lambda head: head.user_id,
    "start_time": lambda head: head.start_ms,
    "end_time": lambda head: head.end_ms,
    "artifact_uri": lambda head: head.artifact_uri,
}


class ExperimentStory(Story[experiments.Experiment | None]):
    """Of an experiment."""

    projection = Projection.EXPERIMENTS

    def __init__(self, experiment_id: int) -> None:
        self.entity, self._id = str(experiment_id), experiment_id

    def start(self) -> experiments.Experiment | None:
        return None

    def read(self, data: bytes) -> experiments.Experiment | None:
        return read_experiment(data)

    def step(self, state: experiments.Experiment | None, record: Record) -> Step[experiments.Experiment | None]:
        # Alone: what it could have to do with others was decided when its events were accepted.
        alone = experiments.Experiments(next_id=self._id)
        if state is not None:
            alone.put(state)
        answer = experiments.fold(alone, record)
        after = state if isinstance(answer, Rejection) else answer
        return {**self.fields(state), **self.fields(after)}, lambda: after

    def fields(self, state: experiments.Experiment | None) -> dict[str, Any]:
        if state is None:
            return {}
        found: dict[str, Any] = {
            "name": state.name,
            "lifecycle_stage": state.lifecycle_stage,
            "artifact_location": state.artifact_location,
        }
        return found | {f"tags.{key}": value for key, value in state.tags.items()}


@dataclass(slots=True)
class OneModel:
    """A registered model by itself, with its versions, aliases and tags."""

    state: models.Models = field(default_factory=models.Models)
    tags: dict[str, str] = field(default_factory=dict)
    version_tags: dict[int, dict[str, str]] = field(default_factory=dict)

    def apply(self, change: models.Change) -> "OneModel":
        """Take in the fold's answer."""
        self.state.apply(change)
        for (_, key), value in change.model_tags.items():
            _set(self.tags, key, value)
        for (_, number, key), value in change.version_tags.items():
            _set(self.version_tags.setdefault(number, {}), key, value)
        for _, number in change.versions_gone:
            self.version_tags.pop(number, None)
        if change.models_gone:
            self.tags, self.version_tags = {}, {}
        return self


class ModelStory(Story[OneModel]):
    """Of a registered model with all its versions and aliases; `born` is its identity."""

    projection = Projection.REGISTRY

    def __init__(self, born: int) -> None:
        self.entity, self.born = model_entity(born), born

    def start(self) -> OneModel:
        return OneModel()

    def read(self, data: bytes) -> OneModel:
        raise AssertionError("no states of models are kept")

    def step(self, state: OneModel, record: Record) -> Step[OneModel]:
        event = record.event
        if not isinstance(event, RegisteredModelFact):
            return (), lambda: state
        model = state.state.by_born.get(self.born)
        if isinstance(event, ModelsPromoted):
            # Of a promotion that was accepted: the other models' part is their story.
            moves = [move for move in event.moves if model is not None and move.name == model.name]
            record = replace(record, event=event.model_copy(update={"conditions": [], "moves": moves}))
        answer = models.fold(state.state, record)
        if isinstance(answer, Rejection):
            return (), lambda: state
        change = answer
        names = ["name", "description"] if change.models else []
        names += [f"tags.{key}" for _, key in change.model_tags]
        names += [f"alias.{alias}" for _, alias in change.aliases]
        names += [f"versions.{number}.{part}" for _, number in change.versions for part in _VERSION]
        names += [f"versions.{number}.tags.{key}" for _, number, key in change.version_tags]
        for _, number in change.versions_gone:
            names += [name for name in self.fields(state) if name.startswith(f"versions.{number}.")]
        if change.models_gone:
            names = list(self.fields(state))
        return names, lambda: state.apply(change)

    def fields(self, state: OneModel) -> dict[str, Any]:
        model = state.state.by_born.get(self.born)
        if model is None:
            return {}
        found: dict[str, Any] = {"name": model.name, "description": model.description}
        found |= {f"tags.{key}": value for key, value in state.tags.items()}
        found |= {f"alias.{alias}": number for alias, number in state.state.aliases.get(self.born, {}).items()}
        for number, version in state.state.versions.get(self.born, {}).items():
            found |= {f"versions.{number}.{part}": getattr(version, part) for part in _VERSION}
        for number, own in state.version_tags.items():
            found |= {f"versions.{number}.tags.{key}": value for key, value in own.items()}
        return _there(found)

    def value(self, state: OneModel, name: str) -> Any:
        model = state.state.by_born.get(self.born)
        kind, _, key = name.partition(".")
        if model is None:
            return None
        match kind:
            case "name" | "description":
                return getattr(model, kind) if not key else None
            case "tags":
                return state.tags.get(key)
            case "alias":
                return state.state.aliases.get(self.born, {}).get(key)
            case "versions":
                return self._of_version(state, key)
        return None

    def _of_version(self, state: OneModel, rest: str) -> Any:
        number, _, part = rest.partition(".")
        if not (number.isascii() and number.isdecimal()):
            return None
        if part.startswith("tags."):
            return state.version_tags.get(int(number), {}).get(part.removeprefix("tags."))
        version = state.state.versions.get(self.born, {}).get(int(number))
        return getattr(version, part) if version is not None and part in _VERSION else None


_VERSION = ("stage", "description", "source", "run_id", "model_id")


def _set(pairs: dict[str, str], key: str, value: str | None) -> None:
    if value is None:
        pairs.pop(key, None)
    else:
        pairs[key] = value


def _there(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


def changed(before: Fields, after: Fields) -> Iterator[dict[str, Any]]:
    """The fields that differ: each with its value before and after, null where it had none."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield {"field": name, "from": old, "to": new}


class LoggedModelStory(Story[logged_models.LoggedModel | None]):
    """Of a logged model: its head, params and tags. Not what runs measured of it."""

    projection = Projection.REGISTRY

    def __init__(self, model_id: str) -> None:
        self.entity = model_id

    def start(self) -> logged_models.LoggedModel | None:
        return None

    def read(self, data: bytes) -> logged_models.LoggedModel | None:
        return read_logged_model(data)

    def step(self, state: logged_models.LoggedModel | None, record: Record) -> Step[logged_models.LoggedModel | None]:
        if isinstance(record.event, LoggedModelFact):
            answer = logged_models.fold(state, record)
            if not isinstance(answer, Rejection):
                change = answer
                names = [*(_MODEL_HEAD if change.head is not None else ())]
                names += [f"params.{key}" for key in change.params]
                names += [f"tags.{key}" for key in change.tags]
                return names, lambda: logged_models.evolve(state, change)
        return (), lambda: state

    def fields(self, state: logged_models.LoggedModel | None) -> dict[str, Any]:
        if state is None:
            return {}
        found: dict[str, Any] = {name: getattr(state.head, name) for name in _MODEL_HEAD}
        found |= {f"params.{key}": value for key, value in state.params.items()}
        return _there(found | {f"tags.{key}": value for key, value in state.tags.items()})


_MODEL_HEAD = ("name", "status", "lifecycle_stage", "artifact_uri", "model_type", "source_run_id")


class LineStory(Story[None]):
    """Of what tells how a run's points hang together: attempts, rewinds, forks. They have fields of no entity."""

    projection = Projection.METRICS

    def __init__(self, run_id: str) -> None:
        self.entity = run_id

    def where(self, vector: Vector) -> Partition:
        return partition_of_run(vector, Topic.METRICS, self.entity)

    def start(self) -> None:
        return None

    def read(self, data: bytes) -> None:
        return None

    def step(self, state: None, record: Record) -> Step[None]:
        return (), lambda: None

    def fields(self, state: None) -> dict[str, Any]:
        return {}
