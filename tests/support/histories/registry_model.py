"""The registry as one would write it in an afternoon: dictionaries by name, deep-copied before each change.

What the fold is held against.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

from runfold_schemas.codec.record import Record
from runfold_schemas.events.registered_models import (
    ModelAliasDeleted,
    ModelAliasSet,
    ModelsPromoted,
    ModelVersionCreated,
    ModelVersionDeleted,
    ModelVersionDescribed,
    ModelVersionStaged,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    RegisteredModelCreated,
    RegisteredModelDeleted,
    RegisteredModelDescribed,
    RegisteredModelRenamed,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
)


@dataclass
class Version:
    """A version as people speak of it."""

    source: str
    description: str | None
    tags: dict[str, str]
    stage: str = "None"


@dataclass
class Model:
    """A model as people speak of it. `given` counts the numbers that were ever given to its versions."""

    description: str | None
    tags: dict[str, str]
    given: int = 0
    versions: dict[int, Version] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


class Refused(Exception):
    """The event changes nothing."""


@dataclass
class SimpleRegistry:
    """All models by workspace and name."""

    models: dict[tuple[str, str], Model] = field(default_factory=dict)

    def tell(self, record: Record) -> bool:
        """Whether the event took effect."""
        before = copy.deepcopy(self.models)
        try:
            self._tell(record.envelope.workspace, record.event)
        except Refused:
            self.models = before
            return False
        return True

    def _tell(self, workspace: str, event: Any) -> None:
        if isinstance(event, ModelsPromoted):
            for condition in event.conditions:
                self._require(workspace, condition)
            for move in event.moves:
                self._move(workspace, move)
        elif isinstance(event, RegisteredModelCreated):
            if (workspace, event.name) in self.models:
                raise Refused
            self.models[workspace, event.name] = Model(event.description, dict(event.tags))
        else:
            self._change(workspace, self._model(workspace, event.name), event)

    def _model(self, workspace: str, name: str) -> Model:
        if (workspace, name) not in self.models:
            raise Refused
        return self.models[workspace, name]

    def _change(self, workspace: str, model: Model, event: Any) -> None:
        match event:
            case RegisteredModelDescribed():
                model.description = event.description
            case RegisteredModelRenamed():
                if event.new_name != event.name and (workspace, event.new_name) in self.models:
                    raise Refused
                self.models[workspace, event.new_name] = self.models.pop((workspace, event.name))
            case RegisteredModelDeleted():
                del self.models[workspace, event.name]
            case RegisteredModelTagsSet():
                model.tags.update(event.tags)
            case RegisteredModelTagsDeleted():
                for key in event.keys:
                    model.tags.pop(key, None)
            case ModelAliasSet():
                self._version(model, event.version)
                model.aliases[event.alias] = event.version
            case ModelAliasDeleted():
                model.aliases.pop(event.alias, None)
            case ModelVersionCreated():
                model.given += 1
                model.versions[model.given] = Version(event.source, event.description, dict(event.tags))
            case _:
                self._change_version(model, self._version(model, event.version), event)

    @staticmethod
    def _version(model: Model, number: int) -> Version:
        if number not in model.versions:
            raise Refused
        return model.versions[number]

    def _change_version(self, model: Model, version: Version, event: Any) -> None:
        match event:
            case ModelVersionDescribed():
                version.description = event.description
            case ModelVersionStaged():
                self._stage(model, event.version, event.stage, event.archive_existing)
            case ModelVersionDeleted():
                del model.versions[event.version]
                model.aliases = {alias: on for alias, on in model.aliases.items() if on != event.version}
            case ModelVersionTagsSet():
                version.tags.update(event.tags)
            case ModelVersionTagsDeleted():
                for key in event.keys:
                    version.tags.pop(key, None)

    @staticmethod
    def _stage(model: Model, number: int, stage: str, archive_existing: bool) -> None:
        for other in model.versions.values():
            if archive_existing and other.stage == stage:
                other.stage = "Archived"
        model.versions[number].stage = stage

    def _require(self, workspace: str, condition: Any) -> None:
        model = self._model(workspace, condition.name)
        if condition.alias is not None:
            if model.aliases.get(condition.alias) != condition.version:
                raise Refused
        elif condition.version is not None:
            version = self._version(model, condition.version)
            if condition.stage not in (None, version.stage):
                raise Refused

    def _move(self, workspace: str, move: Any) -> None:
        model = self._model(workspace, move.name)
        if move.version is not None:
            self._version(model, move.version)
        if move.alias is not None:
            model.aliases.pop(move.alias, None)
            if move.version is not None:
                model.aliases[move.alias] = move.version
        if move.stage is not None:
            self._stage(model, move.version, move.stage, move.archive_existing)
