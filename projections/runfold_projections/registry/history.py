"""Of a registered model, with all its versions and aliases."""

from dataclasses import replace
from typing import Any

from runfold_projections.core.rejection import Rejection
from runfold_projections.generations.generations import Projection
from runfold_projections.history.entity_history import Step, Story, Unread, there
from runfold_projections.history.state_codec import read_model
from runfold_schemas.codec.record import Record
from runfold_schemas.events.base import Fact
from runfold_schemas.events.registered_models import (
    ModelAliasDeleted,
    ModelAliasSet,
    ModelsPromoted,
    ModelVersionDescribed,
    ModelVersionStaged,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    RegisteredModelDescribed,
    RegisteredModelFact,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
)

from . import fold as models
from .model_state import OneModel
from .projector import model_entity


class ModelStory(Story[OneModel]):
    """The story of one registered model; `born` is its identity."""

    projection = Projection.REGISTRY

    def __init__(self, born: int) -> None:
        self.entity, self.born = model_entity(born), born

    def start(self) -> OneModel:
        return OneModel()

    def read(self, data: bytes) -> OneModel:
        return read_model(data)

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
        return there(found)

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

    def unread(self, name: str) -> Unread:
        kind, _, rest = name.partition(".")
        part = rest.partition(".")[2]
        tag = rest if kind == "tags" else None
        alias = rest if kind == "alias" else None
        version_tag = part.removeprefix("tags.") if kind == "versions" and part.startswith("tags.") else None
        found: dict[type[Fact], str | None] = {
            RegisteredModelTagsSet: tag,
            RegisteredModelTagsDeleted: tag,
            ModelAliasSet: alias,
            ModelAliasDeleted: alias,
            ModelVersionTagsSet: version_tag,
            ModelVersionTagsDeleted: version_tag,
        }
        if kind != "description":
            found[RegisteredModelDescribed] = None
        if part != "description":
            found[ModelVersionDescribed] = None
        if part != "stage":
            found[ModelVersionStaged] = None
        return found


_VERSION = ("stage", "description", "source", "run_id", "model_id")
