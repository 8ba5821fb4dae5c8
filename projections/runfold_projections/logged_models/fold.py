"""Logged models: one state per model, changed by its own events only. Metrics of a model are another topic's: folds/model_metrics.py.

As in MLflow's store, a deleted model may still be written to, and its status may be set any number of times.
"""

from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from runfold_projections.core import params
from runfold_projections.core.rejection import Rejection, RejectionCode
from runfold_projections.core.tags import change_tags
from runfold_schemas.codec.record import Record
from runfold_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFact,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
    ModelStatus,
)

ACTIVE, DELETED = "active", "deleted"
PENDING: ModelStatus = "PENDING"


class ModelHead(msgspec.Struct, frozen=True, gc=False):
    """A logged model without its params and tags. Times are ms since the epoch by the writers' clocks; tags and params do not move
    `updated_ms`, as in MLflow."""

    model_id: str
    workspace: str
    experiment_id: int
    name: str
    artifact_uri: str
    model_type: str | None
    source_run_id: str | None
    status: ModelStatus
    lifecycle_stage: str
    created_ms: int
    updated_ms: int
    created_by: str


@dataclass(slots=True)
class LoggedModel:
    """A logged model as folded."""

    head: ModelHead
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What an accepted event changes. A tag of None is removed; a head of None stays."""

    head: ModelHead | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)


def fold(state: LoggedModel | None, record: Record) -> ModelChange | Rejection:
    """What the event changes about the model, or why it changes nothing. Computes only; see `evolve`."""
    event, envelope = record.event, record.envelope
    assert isinstance(event, LoggedModelFact), event
    if isinstance(event, LoggedModelCreated):
        return _create(state, event, record)
    # Another workspace's model is as good as none.
    if state is None or state.head.workspace != envelope.workspace:
        return Rejection(
            RejectionCode.LOGGED_MODEL_NOT_FOUND,
            f"Logged model with ID '{event.model_id}' not found.",
            {"model_id": event.model_id},
        )
    match event:
        case LoggedModelFinalized():
            return ModelChange(head=replace(state.head, status=event.status, updated_ms=envelope.time_ms))
        case LoggedModelDeleted():
            return ModelChange(head=replace(state.head, lifecycle_stage=DELETED, updated_ms=envelope.time_ms))
        case LoggedModelParamsLogged():
            return _params(state, event)
        case LoggedModelTagsSet():
            return ModelChange(tags=dict(event.tags))
        case LoggedModelTagsDeleted():
            return _delete_tags(state, event)
    raise AssertionError(event)


def evolve(state: LoggedModel | None, change: ModelChange) -> LoggedModel:
    """The state after a change. Takes the old state over: it must not be used afterwards."""
    if state is None:
        assert change.head is not None, "the first change of a model is its creation"
        state = LoggedModel(change.head)
    if change.head is not None:
        state.head = change.head
    state.params.update(change.params)
    change_tags(state.tags, change.tags)
    return state


def _create(state: LoggedModel | None, event: LoggedModelCreated, record: Record) -> ModelChange | Rejection:
    if state is not None:
        return Rejection(
            RejectionCode.LOGGED_MODEL_EXISTS,
            f"Logged model with ID '{event.model_id}' already exists.",
            {"model_id": event.model_id},
        )
    envelope = record.envelope
    head = ModelHead(
        model_id=event.model_id,
        workspace=envelope.workspace,
        experiment_id=event.experiment_id,
        name=event.name,
        artifact_uri=event.artifact_uri,
        model_type=event.model_type,
        source_run_id=event.source_run_id,
        status=PENDING,
        lifecycle_stage=ACTIVE,
        created_ms=envelope.time_ms,
        updated_ms=envelope.time_ms,
        created_by=envelope.event_id,
    )
    return ModelChange(head, dict(event.params), dict(event.tags))


def _params(state: LoggedModel, event: LoggedModelParamsLogged) -> ModelChange | Rejection:
    changed = params.conflicts(state.params, event.params)
    if changed:
        return Rejection(
            RejectionCode.LOGGED_MODEL_PARAM_CHANGED,
            f"Changing param values is not allowed. Params were already logged='{changed}' "
            f"for logged model ID='{event.model_id}'.",
            {"model_id": event.model_id, "conflicts": changed},
        )
    return ModelChange(params=params.added(state.params, event.params))


def _delete_tags(state: LoggedModel, event: LoggedModelTagsDeleted) -> ModelChange | Rejection:
    for key in event.keys:
        if key not in state.tags:
            return Rejection(
                RejectionCode.LOGGED_MODEL_TAG_NOT_FOUND,
                f"No tag with key {key!r} found for model with ID {event.model_id!r}.",
                {"model_id": event.model_id, "key": key},
            )
    return ModelChange(tags=dict.fromkeys(event.keys))
