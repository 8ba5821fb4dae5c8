"""The history of a run: its head, params, tags and inputs. Metrics have no journal."""

from collections.abc import Callable, Iterator
from typing import Any

from runfold_projections.core.entity import Histories, HistorySubject
from runfold_projections.core.entity_history import EntityHistory, Skippable, Step, with_one_key, without_nulls
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.history.cutoff import partition_of_run
from runfold_projections.history.timeline import known_histories
from runfold_projections.metrics.history import BranchHistory
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored
from runfold_schemas.events.base import Fact
from runfold_schemas.events.runs import (
    InputsLogged,
    ModelLogged,
    OutputsLogged,
    ParamsLogged,
    RunFact,
    RunUpdated,
    TagsDeleted,
    TagsSet,
)
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from . import fold
from .state import decode_run


class RunHistory(EntityHistory[fold.RunState | None]):
    """The history of one run."""

    projection = Projection.RUNS
    heads = ("status", "name")

    def __init__(self, run_id: str) -> None:
        self.entity = run_id

    def partition(self, vector: Vector) -> Partition:
        return partition_of_run(vector, Topic.RUNS, self.entity)

    def start(self) -> fold.RunState | None:
        return None

    def decode(self, data: bytes) -> fold.RunState | None:
        return decode_run(data)

    def step(self, state: fold.RunState | None, record: Record) -> Step[fold.RunState | None]:
        if isinstance(record.event, RunFact):
            answer = fold.fold(state, record)
            if not isinstance(answer, Rejection) and (state is not None or answer.head is not None):
                change = answer
                names = [*(_HEAD if change.head is not None else ())]
                names += [f"params.{key}" for key in change.params]
                names += [f"tags.{key}" for key in change.tags]
                names += [f"datasets.{dataset.name}" for dataset in change.datasets]
                names += [f"models.{model}" for model in change.models]
                names += [f"outputs.{model}" for model, _ in change.outputs]
                return names, lambda: fold.evolve(state, change)
        return (), lambda: state

    def requested_fields(self, event: Any) -> Iterator[str]:
        yield from super().requested_fields(event)
        if isinstance(event, RunUpdated) and (event.end_ms is not None or event.status == "RUNNING"):
            yield "end_time"

    def fields(self, state: fold.RunState | None) -> dict[str, Any]:
        if state is None:
            return {}
        found: dict[str, Any] = {name: get(state.head) for name, get in _HEAD.items()}
        found |= {f"params.{key}": value for key, value in state.params.items()}
        found |= {f"tags.{key}": value for key, value in state.tags.items()}
        found |= {f"datasets.{d.name}": d.digest for d in state.datasets}
        found |= {f"models.{model}": model for model in state.models}
        return without_nulls(found | {f"outputs.{model}": step for model, step in state.outputs})

    def value(self, state: fold.RunState | None, name: str) -> Any:
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

    def skippable(self, name: str) -> Skippable:
        found: dict[type[Fact], str | None] = dict.fromkeys(_ABOUT_KEYS)
        kind, _, key = name.partition(".")
        match kind:
            case "params":
                found[ParamsLogged] = key
            case "tags":
                found |= {TagsSet: key, TagsDeleted: key}
                if key == fold.MODELS_TAG:
                    del found[ModelLogged]
            case "datasets" | "models":
                found[InputsLogged] = key
            case "outputs":
                found[OutputsLogged] = key
            case "name":
                found[TagsSet] = fold.RUN_NAME_TAG
        return found

    def narrowed(self, record: Record, name: str) -> Record:
        return with_one_key(record, name.removeprefix("tags.")) if isinstance(record.event, TagsDeleted) else record


_HEAD: dict[str, Callable[[fold.Head], Any]] = {
    "name": lambda head: head.name,
    "status": lambda head: head.status,
    "lifecycle_stage": lambda head: head.lifecycle_stage,
    "experiment_id": lambda head: str(head.experiment_id),
    "user_id": lambda head: head.user_id,
    "start_time": lambda head: head.start_ms,
    "end_time": lambda head: head.end_ms,
    "artifact_uri": lambda head: head.artifact_uri,
}
_ABOUT_KEYS: tuple[type[Fact], ...] = (
    ParamsLogged,
    TagsSet,
    TagsDeleted,
    InputsLogged,
    OutputsLogged,
    ModelLogged,
    ArtifactStored,
    ArtifactsDeleted,
)
"""Events that change only the params, tags, inputs and files that they name."""


async def _find(connection: Connection, run_id: str, vector: Vector) -> Histories | None:
    return await known_histories(connection, (RunHistory(run_id), BranchHistory(run_id)), vector)


SUBJECT = HistorySubject(
    collection="runs",
    parameter="run_id",
    about="Id of the run.",
    topics=(Topic.RUNS, Topic.METRICS),
    find=_find,
    missing="Run with id={} not found",
)
