"""Logged models: one state per model, changed by its own events only.

Its metrics are in model_metrics/model_metrics.py.

As in MLflow's store, a deleted model can still be written to, and its status can be set any number of times.
"""

from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from runfold_projections.core import params
from runfold_projections.core.rejection import Rejection
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

from .rejections import LoggedModelRejection

ACTIVE, DELETED = "active", "deleted"
PENDING: ModelStatus = "PENDING"


class LoggedModelHead(msgspec.Struct, frozen=True, gc=False):
    """A logged model without its params and tags. Times are ms since the epoch by the writers' clocks.

    Tags and params do not change `updated_ms`, as in MLflow.
    """

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
class LoggedModelState:
    """A logged model as folded."""

    head: LoggedModelHead
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedModelChange:
    """What an accepted event changes. A tag of None is removed; a head of None is unchanged."""

    head: LoggedModelHead | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)


def fold(state: LoggedModelState | None, record: Record) -> LoggedModelChange | Rejection:
    """Return what the event changes about the model, to be applied by `evolve`; or why it is rejected."""
    event, envelope = record.event, record.envelope
    assert isinstance(event, LoggedModelFact), event
    if isinstance(event, LoggedModelCreated):
        return _create(state, event, record)
    # A model of another workspace counts as missing.
    if state is None or state.head.workspace != envelope.workspace:
        return Rejection(
            LoggedModelRejection.NOT_FOUND,
            f"Logged model with ID '{event.model_id}' not found.",
            {"model_id": event.model_id},
        )
    match event:
        case LoggedModelFinalized():
            return LoggedModelChange(head=replace(state.head, status=event.status, updated_ms=envelope.time_ms))
        case LoggedModelDeleted():
            return LoggedModelChange(head=replace(state.head, lifecycle_stage=DELETED, updated_ms=envelope.time_ms))
        case LoggedModelParamsLogged():
            return _params(state, event)
        case LoggedModelTagsSet():
            return LoggedModelChange(tags=dict(event.tags))
        case LoggedModelTagsDeleted():
            return _delete_tags(state, event)
    raise AssertionError(event)


def evolve(state: LoggedModelState | None, change: LoggedModelChange) -> LoggedModelState:
    """Return the state after a change. Reuses the old state, which is invalid afterwards."""
    if state is None:
        assert change.head is not None, "the first change of a model is its creation"
        state = LoggedModelState(change.head)
    if change.head is not None:
        state.head = change.head
    state.params.update(change.params)
    change_tags(state.tags, change.tags)
    return state


def _create(state: LoggedModelState | None, event: LoggedModelCreated, record: Record) -> LoggedModelChange | Rejection:
    if state is not None:
        return Rejection(
            LoggedModelRejection.EXISTS,
            f"Logged model with ID '{event.model_id}' already exists.",
            {"model_id": event.model_id},
        )
    envelope = record.envelope
    head = LoggedModelHead(
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
    return LoggedModelChange(head, dict(event.params), dict(event.tags))


def _params(state: LoggedModelState, event: LoggedModelParamsLogged) -> LoggedModelChange | Rejection:
    changed = params.conflicts(state.params, event.params)
    if changed:
        return Rejection(
            LoggedModelRejection.PARAM_CHANGED,
            f"Changing param values is not allowed. Params were already logged='{changed}' "
            f"for logged model ID='{event.model_id}'.",
            {"model_id": event.model_id, "conflicts": changed},
        )
    return LoggedModelChange(params=params.added(state.params, event.params))


def _delete_tags(state: LoggedModelState, event: LoggedModelTagsDeleted) -> LoggedModelChange | Rejection:
    for key in event.keys:
        if key not in state.tags:
            return Rejection(
                LoggedModelRejection.TAG_NOT_FOUND,
                f"No tag with key {key!r} found for model with ID {event.model_id!r}.",
                {"model_id": event.model_id, "key": key},
            )
    return LoggedModelChange(tags=dict.fromkeys(event.keys))
