"""Of a logged model: its head, params and tags. Not what runs measured of it."""

from typing import Any

from runfold_projections.core.rejection import Rejection
from runfold_projections.generations.generations import Projection
from runfold_projections.history.entity_history import Step, Story, Unread, of_one_key, there
from runfold_projections.history.state_codec import read_logged_model
from runfold_schemas.codec.record import Record
from runfold_schemas.events.logged_models import (
    LoggedModelFact,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
)

from . import fold


class LoggedModelStory(Story[fold.LoggedModel | None]):
    """The story of one logged model."""

    projection = Projection.REGISTRY

    def __init__(self, model_id: str) -> None:
        self.entity = model_id

    def start(self) -> fold.LoggedModel | None:
        return None

    def read(self, data: bytes) -> fold.LoggedModel | None:
        return read_logged_model(data)

    def step(self, state: fold.LoggedModel | None, record: Record) -> Step[fold.LoggedModel | None]:
        if isinstance(record.event, LoggedModelFact):
            answer = fold.fold(state, record)
            if not isinstance(answer, Rejection):
                change = answer
                names = [*(_HEAD if change.head is not None else ())]
                names += [f"params.{key}" for key in change.params]
                names += [f"tags.{key}" for key in change.tags]
                return names, lambda: fold.evolve(state, change)
        return (), lambda: state

    def fields(self, state: fold.LoggedModel | None) -> dict[str, Any]:
        if state is None:
            return {}
        found: dict[str, Any] = {name: getattr(state.head, name) for name in _HEAD}
        found |= {f"params.{key}": value for key, value in state.params.items()}
        return there(found | {f"tags.{key}": value for key, value in state.tags.items()})

    def value(self, state: fold.LoggedModel | None, name: str) -> Any:
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

    def unread(self, name: str) -> Unread:
        kind, _, key = name.partition(".")
        tag = key if kind == "tags" else None
        param = key if kind == "params" else None
        return {LoggedModelParamsLogged: param, LoggedModelTagsSet: tag, LoggedModelTagsDeleted: tag}

    def alone(self, record: Record, name: str) -> Record:
        is_deletion = isinstance(record.event, LoggedModelTagsDeleted)
        return of_one_key(record, name.removeprefix("tags.")) if is_deletion else record


_HEAD = ("name", "status", "lifecycle_stage", "artifact_uri", "model_type", "source_run_id")
