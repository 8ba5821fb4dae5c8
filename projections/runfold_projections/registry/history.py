"""The history of a registered model, with all its versions and aliases."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runfold_projections.core.entity_history import EntityHistory, Skippable, Step, requested_fields, without_nulls
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.base import Fact
from runfold_schemas.events.registered_models import (
    ModelAliasDeleted,
    ModelAliasSet,
    ModelsPromoted,
    ModelVersionDeleted,
    ModelVersionDescribed,
    ModelVersionStaged,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    RegisteredModelDescribed,
    RegisteredModelFact,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
    VersionFact,
)

from . import fold as models
from .model_state import OneModel
from .projector import model_entity
from .state import decode_model


class RegisteredModelHistory(EntityHistory[OneModel]):
    """The history of one registered model; `creation_offset` is its identity."""

    projection = Projection.REGISTRY
    heads = ("stage", "description")

    def __init__(self, creation_offset: int) -> None:
        self.entity, self.creation_offset = model_entity(creation_offset), creation_offset

    def start(self) -> OneModel:
        return OneModel()

    def decode(self, data: bytes) -> OneModel:
        return decode_model(data)

    def step(self, state: OneModel, record: Record) -> Step[OneModel]:
        event = record.event
        if not isinstance(event, RegisteredModelFact):
            return (), lambda: state
        model = state.state.by_offset.get(self.creation_offset)
        if isinstance(event, ModelsPromoted):
            # Of an accepted promotion, the moves of other models belong to their histories.
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

    def requested_fields(self, event: Any) -> Iterator[str]:
        if isinstance(event, ModelsPromoted):
            for move in event.moves:
                yield from _alias_and_version(move.alias, move.version)
            for condition in event.conditions:
                yield from _alias_and_version(condition.alias, condition.version)
            return
        if isinstance(event, ModelAliasSet | ModelAliasDeleted):
            yield from _alias_and_version(event.alias, getattr(event, "version", None))
        if isinstance(event, ModelVersionDeleted):
            yield f"versions.{event.version}"
        prefix = f"versions.{event.version}." if isinstance(event, VersionFact) else ""
        yield from requested_fields(event, self.heads, prefix)

    def fields(self, state: OneModel) -> dict[str, Any]:
        model = state.state.by_offset.get(self.creation_offset)
        if model is None:
            return {}
        found: dict[str, Any] = {"name": model.name, "description": model.description}
        found |= {f"tags.{key}": value for key, value in state.tags.items()}
        found |= {
            f"alias.{alias}": number for alias, number in state.state.aliases.get(self.creation_offset, {}).items()
        }
        for number, version in state.state.versions.get(self.creation_offset, {}).items():
            found |= {f"versions.{number}.{part}": getattr(version, part) for part in _VERSION}
        for number, own in state.version_tags.items():
            found |= {f"versions.{number}.tags.{key}": value for key, value in own.items()}
        return without_nulls(found)

    def value(self, state: OneModel, name: str) -> Any:
        model = state.state.by_offset.get(self.creation_offset)
        kind, _, key = name.partition(".")
        if model is None:
            return None
        match kind:
            case "name" | "description":
                return getattr(model, kind) if not key else None
            case "tags":
                return state.tags.get(key)
            case "alias":
                return state.state.aliases.get(self.creation_offset, {}).get(key)
            case "versions":
                return self._of_version(state, key)
        return None

    def _of_version(self, state: OneModel, rest: str) -> Any:
        number, _, part = rest.partition(".")
        if not (number.isascii() and number.isdecimal()):
            return None
        if part.startswith("tags."):
            return state.version_tags.get(int(number), {}).get(part.removeprefix("tags."))
        version = state.state.versions.get(self.creation_offset, {}).get(int(number))
        return getattr(version, part) if version is not None and part in _VERSION else None

    def skippable(self, name: str) -> Skippable:
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


def _alias_and_version(alias: str | None, version: int | None) -> Iterator[str]:
    if alias is not None:
        yield f"alias.{alias}"
    if version is not None:
        yield f"versions.{version}"
