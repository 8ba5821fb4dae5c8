"""Registered models, their versions and aliases: names unique per workspace, numbers in log order, promotions wholly or not at all.

A model is known by `born`, the offset of the event that created it; its name may change and may later be another's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from runfold_projections.core.rejection import Rejection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.registered_models import (
    ModelAliasDeleted,
    ModelAliasSet,
    ModelFact,
    ModelsPromoted,
    ModelVersionCreated,
    ModelVersionDeleted,
    ModelVersionDescribed,
    ModelVersionStaged,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    PromotionCondition,
    RegisteredModelCreated,
    RegisteredModelDeleted,
    RegisteredModelDescribed,
    RegisteredModelFact,
    RegisteredModelRenamed,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
    VersionFact,
)

from .rejections import RegisteredModelRejection

PROMPT_TAG = "mlflow.prompt.is_prompt"
NO_STAGE, ARCHIVED = "None", "Archived"


class Model(msgspec.Struct, frozen=True, gc=False):
    """A registered model as folded; times are ms since the epoch by the writers' clocks.

    `renamed_ms` counts as an update of every version that it has. `is_prompt`: it has MLflow's tag of prompts, whatever its value.
    """

    born: int
    workspace: str
    name: str
    description: str | None
    created_ms: int
    updated_ms: int
    renamed_ms: int
    last_version: int
    is_prompt: bool


class Version(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A version as folded. `storage_location` is where its files lie if that is not the source."""

    born: int
    version: int
    log_offset: int
    source: str
    storage_location: str | None
    run_id: str | None
    run_link: str | None
    model_id: str | None
    description: str | None
    stage: str
    created_ms: int
    updated_ms: int


@dataclass(slots=True)
class RegisteredModelChange:
    """What an event changes: new rows by their keys, and None or the lists of `gone` for what is taken away."""

    models: dict[int, Model] = field(default_factory=dict)
    versions: dict[tuple[int, int], Version] = field(default_factory=dict)
    aliases: dict[tuple[int, str], int | None] = field(default_factory=dict)
    model_tags: dict[tuple[int, str], str | None] = field(default_factory=dict)
    version_tags: dict[tuple[int, int, str], str | None] = field(default_factory=dict)
    models_gone: list[int] = field(default_factory=list)
    versions_gone: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Models:
    """State of the registered models, or the part of it that a batch of events can touch."""

    by_born: dict[int, Model] = field(default_factory=dict)
    by_name: dict[tuple[str, str], int] = field(default_factory=dict)
    versions: dict[int, dict[int, Version]] = field(default_factory=dict)
    aliases: dict[int, dict[str, int]] = field(default_factory=dict)

    def put(self, model: Model) -> None:
        """Take in a new or changed model."""
        before = self.by_born.get(model.born)
        if before is not None and before.name != model.name:
            self._free(before)
        self.by_born[model.born] = model
        self.by_name[model.workspace, model.name] = model.born

    def apply(self, change: RegisteredModelChange) -> None:
        """Take in a fold's answer."""
        for model in change.models.values():
            self.put(model)
        for (born, number), version in change.versions.items():
            self.versions.setdefault(born, {})[number] = version
        for (born, alias), stands_on in change.aliases.items():
            if stands_on is None:
                self.aliases.get(born, {}).pop(alias, None)
            else:
                self.aliases.setdefault(born, {})[alias] = stands_on
        for born, number in change.versions_gone:
            self.versions.get(born, {}).pop(number, None)
        for born in change.models_gone:
            self._free(self.by_born.pop(born))
            self.versions.pop(born, None)
            self.aliases.pop(born, None)

    def _free(self, model: Model) -> None:
        # One batch may swap two names: what another model has taken meanwhile stays its own.
        if self.by_name.get((model.workspace, model.name)) == model.born:
            del self.by_name[model.workspace, model.name]


def fold(state: Models, record: Record) -> RegisteredModelChange | Rejection:
    """What the event changes, to be applied to the state; or why it changes nothing."""
    event, workspace, now = record.event, record.envelope.workspace, record.envelope.time_ms
    assert isinstance(event, RegisteredModelFact), event
    if isinstance(event, ModelsPromoted):
        return _promote(state, event, workspace, now)
    assert isinstance(event, ModelFact), event
    if isinstance(event, RegisteredModelCreated):
        return _create(state, event, record)
    model = _find(state, workspace, event.name)
    if model is None:
        return _no_model(event.name)
    if isinstance(event, VersionFact):
        version = state.versions.get(model.born, {}).get(event.version)
        if version is None:
            return _no_version(event.name, event.version)
        return _change_version(state, model, version, event, now)
    return _change_model(state, model, event, record)


def _find(state: Models, workspace: str, name: str) -> Model | None:
    born = state.by_name.get((workspace, name))
    return None if born is None else state.by_born[born]


def _create(state: Models, event: RegisteredModelCreated, record: Record) -> RegisteredModelChange | Rejection:
    there = _find(state, record.envelope.workspace, event.name)
    if there is not None:
        return _exists(there)
    born, now = record.position.offset, record.envelope.time_ms
    model = Model(
        born=born,
        workspace=record.envelope.workspace,
        name=event.name,
        description=event.description,
        created_ms=now,
        updated_ms=now,
        renamed_ms=now,
        last_version=0,
        is_prompt=PROMPT_TAG in event.tags,
    )
    return RegisteredModelChange(
        models={born: model}, model_tags={(born, key): value for key, value in event.tags.items()}
    )


def _change_model(state: Models, model: Model, event: ModelFact, record: Record) -> RegisteredModelChange | Rejection:
    born, now = model.born, record.envelope.time_ms
    match event:
        case RegisteredModelDescribed():
            return RegisteredModelChange(models={born: replace(model, description=event.description, updated_ms=now)})
        case RegisteredModelRenamed():
            taken = _find(state, model.workspace, event.new_name)
            if taken is not None and taken.born != born:
                return _exists(taken)
            return RegisteredModelChange(
                models={born: replace(model, name=event.new_name, updated_ms=now, renamed_ms=now)}
            )
        case RegisteredModelDeleted():
            return RegisteredModelChange(models_gone=[born])
        case RegisteredModelTagsSet():
            change = RegisteredModelChange(model_tags={(born, key): value for key, value in event.tags.items()})
            if PROMPT_TAG in event.tags:
                change.models[born] = replace(model, is_prompt=True)
            return change
        case RegisteredModelTagsDeleted():
            change = RegisteredModelChange(model_tags={(born, key): None for key in event.keys})
            if PROMPT_TAG in event.keys:
                change.models[born] = replace(model, is_prompt=False)
            return change
        case ModelAliasSet():
            if event.version not in state.versions.get(born, {}):
                return _no_version(event.name, event.version)
            return RegisteredModelChange(aliases={(born, event.alias): event.version})
        case ModelAliasDeleted():
            return RegisteredModelChange(aliases={(born, event.alias): None})
        case ModelVersionCreated():
            return _create_version(model, event, record)
    raise AssertionError(event)


def _create_version(model: Model, event: ModelVersionCreated, record: Record) -> RegisteredModelChange:
    now, number = record.envelope.time_ms, model.last_version + 1
    version = Version(
        born=model.born,
        version=number,
        log_offset=record.position.offset,
        source=event.source,
        storage_location=event.storage_location,
        run_id=event.run_id,
        run_link=event.run_link,
        model_id=event.model_id,
        description=event.description,
        stage=NO_STAGE,
        created_ms=now,
        updated_ms=now,
    )
    return RegisteredModelChange(
        models={model.born: replace(model, last_version=number, updated_ms=now)},
        versions={(model.born, number): version},
        version_tags={(model.born, number, key): value for key, value in event.tags.items()},
    )


def _change_version(
    state: Models, model: Model, version: Version, event: VersionFact, now: int
) -> RegisteredModelChange:
    key = (model.born, version.version)
    match event:
        case ModelVersionDescribed():
            return RegisteredModelChange(
                versions={key: replace(version, description=event.description, updated_ms=now)}
            )
        case ModelVersionStaged():
            change = RegisteredModelChange()
            _stage(state, change, model, version, event.stage, event.archive_existing, now)
            return change
        case ModelVersionDeleted():
            standing = [alias for alias, on in state.aliases.get(model.born, {}).items() if on == version.version]
            return RegisteredModelChange(
                models={model.born: replace(model, updated_ms=now)},
                aliases={(model.born, alias): None for alias in standing},
                versions_gone=[key],
            )
        case ModelVersionTagsSet():
            return RegisteredModelChange(version_tags={(*key, name): value for name, value in event.tags.items()})
        case ModelVersionTagsDeleted():
            return RegisteredModelChange(version_tags={(*key, name): None for name in event.keys})
    raise AssertionError(event)


def _stage(
    state: Models,
    change: RegisteredModelChange,
    model: Model,
    version: Version,
    stage: str,
    archive_existing: bool,
    now: int,
) -> None:
    """Add a move to a stage to the change, which may hold moves already."""
    born = model.born
    change.models[born] = replace(model, updated_ms=now)
    if archive_existing:
        for number, before in state.versions.get(born, {}).items():
            other = change.versions.get((born, number), before)
            if other.stage == stage and number != version.version:
                change.versions[born, number] = replace(other, stage=ARCHIVED, updated_ms=now)
    change.versions[born, version.version] = replace(version, stage=stage, updated_ms=now)


def _promote(state: Models, event: ModelsPromoted, workspace: str, now: int) -> RegisteredModelChange | Rejection:
    failed = list(_failed_conditions(state, event, workspace))
    if failed:
        return Rejection(
            RegisteredModelRejection.PROMOTION_CONDITION_FAILED,
            "Nothing was promoted: " + "; ".join(str(one["message"]) for one in failed),
            {"failed": failed},
        )
    change = RegisteredModelChange()
    for move in event.moves:
        model = _find(state, workspace, move.name)
        if model is None:
            return _no_model(move.name)
        version = None
        if move.version is not None:
            there = state.versions.get(model.born, {}).get(move.version)
            if there is None:
                return _no_version(move.name, move.version)
            version = change.versions.get((model.born, move.version), there)
        if move.alias is not None:
            change.aliases[model.born, move.alias] = move.version
        if move.stage is not None and version is not None:
            _stage(state, change, model, version, move.stage, move.archive_existing, now)
    return change


def _failed_conditions(state: Models, event: ModelsPromoted, workspace: str) -> Iterator[dict[str, object]]:
    """Each condition that does not hold: its place in the list, what was asked, what holds, and both as a sentence."""
    for index, condition in enumerate(event.conditions):
        failure = _failure(state, condition, workspace)
        if failure is not None:
            text, found = failure
            asked = {key: value for key, value in condition.model_dump().items() if value is not None}
            yield {"condition": index, **asked, "found": found, "message": f"condition {index} failed: {text}"}


def _failure(state: Models, condition: PromotionCondition, workspace: str) -> tuple[str, object] | None:
    name, wanted = condition.name, condition.version
    model = _find(state, workspace, name)
    if model is None:
        return f"there is no registered model {name!r}", None
    if condition.alias is not None:
        stands_on = state.aliases.get(model.born, {}).get(condition.alias)
        if stands_on == wanted:
            return None
        asked = "not to be set" if wanted is None else f"to stand on version {wanted}"
        found = "is not set" if stands_on is None else f"stands on version {stands_on}"
        return f"@{condition.alias} of {name!r} was {asked}, but it {found}", stands_on
    if wanted is None:
        return None
    version = state.versions.get(model.born, {}).get(wanted)
    if version is None:
        return f"{name!r} has no version {wanted}", None
    if condition.stage in (None, version.stage):
        return None
    return (
        f"version {wanted} of {name!r} was to be in stage {condition.stage}, but it is in {version.stage}",
        version.stage,
    )


def _exists(model: Model) -> Rejection:
    return Rejection(
        RegisteredModelRejection.EXISTS,
        f"Registered Model (name={model.name}) already exists.",
        {"name": model.name, "is_prompt": model.is_prompt},
    )


def _no_model(name: str) -> Rejection:
    return Rejection(RegisteredModelRejection.NOT_FOUND, f"Registered Model with name={name} not found", {"name": name})


def _no_version(name: str, version: int) -> Rejection:
    """The model has no such version, or not any more."""
    return Rejection(
        RegisteredModelRejection.VERSION_NOT_FOUND,
        f"Model Version (name={name}, version={version}) not found",
        {"name": name, "version": version},
    )
