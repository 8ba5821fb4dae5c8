"""Runs: one state per run, changed by its own events only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from runfold_projections.core import params
from runfold_projections.core.rejection import Rejection
from runfold_projections.core.tags import change_tags
from runfold_schemas.codec.record import Record
from runfold_schemas.events.base import parse_json
from runfold_schemas.events.runs import (
    DatasetInput,
    InputsLogged,
    ModelLogged,
    OutputsLogged,
    ParamsLogged,
    RunCreated,
    RunDeleted,
    RunFact,
    RunRestored,
    RunUpdated,
    TagsDeleted,
    TagsSet,
)

from .rejections import RunRejection

ACTIVE, DELETED = "active", "deleted"
RUN_NAME_TAG = "mlflow.runName"
MODELS_TAG = "mlflow.log-model.history"
MAX_MODELS_CHARS = 512 * 1024


class Head(msgspec.Struct, frozen=True, gc=False):
    """A run without its params, tags and inputs. Times are ms since the epoch by the writers' clocks."""

    run_id: str
    experiment_id: int
    name: str
    user_id: str
    status: str
    start_ms: int
    end_ms: int | None
    lifecycle_stage: str
    deleted_ms: int | None
    artifact_uri: str
    created_by: str


@dataclass(slots=True)
class RunState:
    """A run as folded. Datasets and models, read and created (with their step), are in the order of arrival."""

    head: Head
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[DatasetInput] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunChange:
    """What an accepted event changes. A tag of None is removed; a head of None is unchanged."""

    head: Head | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)
    datasets: Sequence[DatasetInput] = ()
    models: Sequence[str] = ()
    outputs: Sequence[tuple[str, int]] = ()


NOTHING = RunChange()


def fold(state: RunState | None, record: Record) -> RunChange | Rejection:
    """Return what the event changes about the run, to be applied by `evolve`; or why it is rejected."""
    event = record.event
    if isinstance(event, RunCreated):
        return _create(state, event, record)
    assert isinstance(event, RunFact), event
    if state is None:
        return Rejection(RunRejection.NOT_FOUND, f"Run with id={event.run_id} not found", {"run_id": event.run_id})
    if isinstance(event, RunDeleted):
        # As in MLflow's store, deleting a deleted run or restoring an active one changes nothing and is no error.
        if state.head.lifecycle_stage == DELETED:
            return NOTHING
        return RunChange(head=replace(state.head, lifecycle_stage=DELETED, deleted_ms=record.envelope.time_ms))
    if isinstance(event, RunRestored):
        if state.head.lifecycle_stage == ACTIVE:
            return NOTHING
        return RunChange(head=replace(state.head, lifecycle_stage=ACTIVE, deleted_ms=None))
    if state.head.lifecycle_stage != ACTIVE:
        return Rejection(
            RunRejection.NOT_ACTIVE,
            f"The run {event.run_id} must be in the 'active' state. Current state is {state.head.lifecycle_stage}.",
            {"run_id": event.run_id, "lifecycle_stage": state.head.lifecycle_stage},
        )
    return _change(state, event)


def evolve(state: RunState | None, change: RunChange) -> RunState:
    """Return the state after a change. Reuses the old state, which is invalid afterwards."""
    if state is None:
        assert change.head is not None, "the first change of a run is its creation"
        state = RunState(change.head)
    if change.head is not None:
        state.head = change.head
    state.params.update(change.params)
    change_tags(state.tags, change.tags)
    state.datasets.extend(change.datasets)
    state.models.extend(change.models)
    state.outputs.extend(change.outputs)
    return state


def _create(state: RunState | None, event: RunCreated, record: Record) -> RunChange | Rejection:
    if state is not None:
        if state.head.experiment_id == event.experiment_id:
            return NOTHING
        return Rejection(
            RunRejection.EXISTS,
            f"Run {event.run_id} exists in experiment {state.head.experiment_id}; "
            f"a process can join it there, not in experiment {event.experiment_id}.",
            {"run_id": event.run_id, "experiment_id": state.head.experiment_id},
        )
    name = event.name or event.tags.get(RUN_NAME_TAG, "")
    head = Head(
        run_id=event.run_id,
        experiment_id=event.experiment_id,
        name=name,
        user_id=event.user_id,
        status="RUNNING",
        start_ms=event.start_ms,
        end_ms=None,
        lifecycle_stage=ACTIVE,
        deleted_ms=None,
        artifact_uri=event.artifact_uri,
        created_by=record.envelope.event_id,
    )
    return RunChange(head=head, tags={**event.tags, **({RUN_NAME_TAG: name} if name else {})})


def _change(state: RunState, event: RunFact) -> RunChange | Rejection:
    match event:
        case RunUpdated():
            given: dict[str, Any] = {
                "status": event.status,
                "end_ms": event.end_ms,
                # An empty name counts as not given, as in MLflow's update_run_info.
                "name": event.name or None,
            }
            head = replace(state.head, **{key: value for key, value in given.items() if value is not None})
            if event.status == "RUNNING" and event.end_ms is None:
                # It continues after its end.
                head = replace(head, end_ms=None)
            return RunChange(head=head, tags={RUN_NAME_TAG: event.name} if event.name else {})
        case ParamsLogged():
            return _params(state, event)
        case TagsSet():
            name = event.tags.get(RUN_NAME_TAG)
            return RunChange(head=replace(state.head, name=name) if name else None, tags=dict(event.tags))
        case TagsDeleted():
            for key in event.keys:
                if key not in state.tags:
                    return Rejection(
                        RunRejection.TAG_NOT_FOUND,
                        f"No tag with name: {key} in run with id {event.run_id}",
                        {"run_id": event.run_id, "key": key},
                    )
            return RunChange(tags=dict.fromkeys(event.keys))
        case InputsLogged():
            return _inputs(state, event)
        case OutputsLogged():
            made = dict.fromkeys((output.model_id, output.step) for output in event.models)
            return RunChange(outputs=[output for output in made if output not in state.outputs])
        case ModelLogged():
            return _model(state, event)
    raise AssertionError(event)


def _params(state: RunState, event: ParamsLogged) -> RunChange | Rejection:
    changed = params.conflicts(state.params, event.params)
    if changed:
        return Rejection(
            RunRejection.PARAM_CHANGED,
            f"Changing param values is not allowed. Params were already logged='{changed}' "
            f"for run ID='{event.run_id}'.",
            {"run_id": event.run_id, "conflicts": changed},
        )
    return RunChange(params=params.added(state.params, event.params))


def _inputs(state: RunState, event: InputsLogged) -> RunChange:
    seen = {(d.name, d.digest) for d in state.datasets}
    datasets = []
    for dataset in event.datasets:
        if (dataset.name, dataset.digest) not in seen:
            seen.add((dataset.name, dataset.digest))
            datasets.append(dataset)
    models = [model for model in dict.fromkeys(event.models) if model not in state.models]
    return RunChange(datasets=datasets, models=models)


def _model(state: RunState, event: ModelLogged) -> RunChange:
    """Add an entry to the history of models, unless the model is in it.

    MLflow cuts a long history in the middle of its JSON and then can't add to it. Here the oldest entries are dropped,
    and a tag that was set to another form starts over.
    """
    entries = [json.dumps(entry) for entry in _models(state.tags.get(MODELS_TAG, ""))]
    model = json.dumps(parse_json(event.model))
    if model in entries:
        return NOTHING
    entries.append(model)
    size = sum(len(entry) + 2 for entry in entries)
    while size > MAX_MODELS_CHARS and len(entries) > 1:
        size -= len(entries.pop(0)) + 2
    return RunChange(tags={MODELS_TAG: f"[{', '.join(entries)}]"})


def _models(text: str) -> list[Any]:
    try:
        known = parse_json(text)
    except ValueError:
        return []
    return known if isinstance(known, list) else []
