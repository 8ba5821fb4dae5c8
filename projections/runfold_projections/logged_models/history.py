"""The history of a logged model: its head, params and tags, without the metrics that runs measured of it."""

from typing import Any

from runfold_projections.core.entity import Histories, HistorySubject
from runfold_projections.core.entity_history import EntityHistory, Skippable, Step, with_one_key, without_nulls
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.history.timeline import known_histories
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.logged_models import (
    LoggedModelFact,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
)
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from . import fold
from .state import decode_logged_model


class LoggedModelHistory(EntityHistory[fold.LoggedModelState | None]):
    """The history of one logged model."""

    projection = Projection.REGISTRY
    heads = ("status",)

    def __init__(self, model_id: str) -> None:
        self.entity = model_id

    def start(self) -> fold.LoggedModelState | None:
        return None

    def decode(self, data: bytes) -> fold.LoggedModelState | None:
        return decode_logged_model(data)

    def step(self, state: fold.LoggedModelState | None, record: Record) -> Step[fold.LoggedModelState | None]:
        if isinstance(record.event, LoggedModelFact):
            answer = fold.fold(state, record)
            if not isinstance(answer, Rejection):
                change = answer
                names = [*(_HEAD if change.head is not None else ())]
                names += [f"params.{key}" for key in change.params]
                names += [f"tags.{key}" for key in change.tags]
                return names, lambda: fold.evolve(state, change)
        return (), lambda: state

    def fields(self, state: fold.LoggedModelState | None) -> dict[str, Any]:
        if state is None:
            return {}
        found: dict[str, Any] = {name: getattr(state.head, name) for name in _HEAD}
        found |= {f"params.{key}": value for key, value in state.params.items()}
        return without_nulls(found | {f"tags.{key}": value for key, value in state.tags.items()})

    def value(self, state: fold.LoggedModelState | None, name: str) -> Any:
        if state is None:
            return None
        if name in _HEAD:
            return getattr(state.head, name)
        kind, _, key = name.partition(".")
        match kind:
            case "params":
                return state.params.get(key)
            case "tags":
                return state.tags.get(key)
        return None

    def skippable(self, name: str) -> Skippable:
        kind, _, key = name.partition(".")
        tag = key if kind == "tags" else None
        param = key if kind == "params" else None
        return {LoggedModelParamsLogged: param, LoggedModelTagsSet: tag, LoggedModelTagsDeleted: tag}

    def narrowed(self, record: Record, name: str) -> Record:
        is_deletion = isinstance(record.event, LoggedModelTagsDeleted)
        return with_one_key(record, name.removeprefix("tags.")) if is_deletion else record


_HEAD = ("name", "status", "lifecycle_stage", "artifact_uri", "model_type", "source_run_id")


async def _find(connection: Connection, model_id: str, vector: Vector) -> Histories | None:
    return await known_histories(connection, (LoggedModelHistory(model_id),), vector)


SUBJECT = HistorySubject(
    collection="logged-models",
    parameter="model_id",
    about="Id of the logged model.",
    topics=(Topic.REGISTRY,),
    find=_find,
    missing="Logged model with ID '{}' not found",
)
