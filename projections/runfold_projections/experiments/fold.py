"""Experiments: unique names per workspace, ids in log order, lifecycle. One partition, so the order is total."""

from dataclasses import dataclass, field, replace

from runfold_projections.core.rejection import Rejection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.experiments import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentFact,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagsDeleted,
    ExperimentTagsSet,
)
from runfold_schemas.events.system import Genesis

from .rejections import ExperimentRejection

ACTIVE, DELETED = "active", "deleted"
DEFAULT_EXPERIMENT_ID = 0
DEFAULT_EXPERIMENT_NAME = "Default"


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """An experiment as folded. Times are ms since the epoch by the writers' clocks."""

    experiment_id: int
    workspace: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    created_ms: int
    updated_ms: int
    created_by: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Experiments:
    """All experiments, or those that a batch of events can touch."""

    by_id: dict[int, ExperimentState] = field(default_factory=dict)
    by_name: dict[tuple[str, str], int] = field(default_factory=dict)
    next_id: int = DEFAULT_EXPERIMENT_ID

    def put(self, experiment: ExperimentState) -> None:
        """Add or replace an experiment: the result of a fold, or a loaded row."""
        before = self.by_id.get(experiment.experiment_id)
        if before is not None and before.name != experiment.name:
            del self.by_name[before.workspace, before.name]
        self.by_id[experiment.experiment_id] = experiment
        self.by_name[experiment.workspace, experiment.name] = experiment.experiment_id
        self.next_id = max(self.next_id, experiment.experiment_id + 1)


def fold(state: Experiments, record: Record) -> ExperimentState | Rejection:
    """Return the experiment after the event, to be put into the state; or why the event is rejected."""
    event, envelope = record.event, record.envelope
    if isinstance(event, Genesis):
        return _create(state, record, DEFAULT_EXPERIMENT_NAME, None, {}, DEFAULT_WORKSPACE)
    if isinstance(event, ExperimentCreated):
        return _create(state, record, event.name, event.artifact_location, event.tags, envelope.workspace)
    assert isinstance(event, ExperimentFact), event
    experiment = state.by_id.get(event.experiment_id)
    if experiment is None or experiment.workspace != envelope.workspace:
        return _not_found(event.experiment_id)
    return _change(state, experiment, event, envelope.time_ms)


def _create(
    state: Experiments, record: Record, name: str, location: str | None, tags: dict[str, str], workspace: str
) -> ExperimentState | Rejection:
    if (workspace, name) in state.by_name:
        return _exists(name)
    return ExperimentState(
        experiment_id=state.next_id,
        workspace=workspace,
        name=name,
        artifact_location=location or f"mlflow-artifacts:/{state.next_id}",
        lifecycle_stage=ACTIVE,
        created_ms=record.envelope.time_ms,
        updated_ms=record.envelope.time_ms,
        created_by=record.envelope.event_id,
        tags=dict(tags),
    )


def _change(state: Experiments, now: ExperimentState, event: Event, time_ms: int) -> ExperimentState | Rejection:
    match event:
        case ExperimentRenamed():
            if now.lifecycle_stage != ACTIVE:
                return _not_active(now, "renamed")
            taken_by = state.by_name.get((now.workspace, event.name))
            if taken_by is not None and taken_by != now.experiment_id:
                return _exists(event.name)
            return replace(now, name=event.name, updated_ms=time_ms)
        case ExperimentDeleted():
            # As in MLflow's store, which deletes only active experiments and restores only deleted ones.
            if now.lifecycle_stage != ACTIVE:
                return _not_found(now.experiment_id)
            return replace(now, lifecycle_stage=DELETED, updated_ms=time_ms)
        case ExperimentRestored():
            if now.lifecycle_stage != DELETED:
                return _not_found(now.experiment_id)
            return replace(now, lifecycle_stage=ACTIVE, updated_ms=time_ms)
        case ExperimentTagsSet():
            if now.lifecycle_stage != ACTIVE:
                return _not_active(now, "tagged")
            return replace(now, tags={**now.tags, **event.tags})
        case ExperimentTagsDeleted():
            if now.lifecycle_stage != ACTIVE:
                return _not_active(now, "tagged")
            for key in event.keys:
                if key not in now.tags:
                    return Rejection(
                        ExperimentRejection.TAG_NOT_FOUND,
                        f"No tag with name: {key} in experiment with id {now.experiment_id}",
                        {"experiment_id": now.experiment_id, "key": key},
                    )
            return replace(now, tags={k: v for k, v in now.tags.items() if k not in event.keys})
    raise AssertionError(event)


def _exists(name: str) -> Rejection:
    return Rejection(ExperimentRejection.EXISTS, f"Experiment(name={name}) already exists.", {"name": name})


def _not_found(experiment_id: int) -> Rejection:
    return Rejection(
        ExperimentRejection.NOT_FOUND,
        f"No Experiment with id={experiment_id} exists",
        {"experiment_id": experiment_id},
    )


def _not_active(experiment: ExperimentState, what: str) -> Rejection:
    return Rejection(
        ExperimentRejection.NOT_ACTIVE,
        f"The experiment {experiment.experiment_id} must be in the 'active' state to be {what}. "
        f"Current state is {experiment.lifecycle_stage}.",
        {"experiment_id": experiment.experiment_id, "lifecycle_stage": experiment.lifecycle_stage},
    )
