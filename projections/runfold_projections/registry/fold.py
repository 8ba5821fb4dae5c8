"""Registered models, their versions and aliases: unique names per workspace, numbers in log order, atomic promotions.

A model's identity is `creation_offset`, the offset of the event that created it. Its name may change, and later name
another model.
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
    """A registered model as folded. Times are ms since the epoch by the writers' clocks.

    `renamed_ms` counts as an update of all its versions. `is_prompt`: it has MLflow's tag of prompts, whatever the
    value.
    """

    creation_offset: int
    workspace: str
    name: str
    description: str | None
    created_ms: int
    updated_ms: int
    renamed_ms: int
    last_version: int
    is_prompt: bool


class Version(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A version as folded. `storage_location` is the location of its files if it is not the source."""

    creation_offset: int
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
    """What an event changes: new rows by key; None, or the lists `…_gone`, for deleted ones."""

    models: dict[int, Model] = field(default_factory=dict)
    versions: dict[tuple[int, int], Version] = field(default_factory=dict)
    aliases: dict[tuple[int, str], int | None] = field(default_factory=dict)
    model_tags: dict[tuple[int, str], str | None] = field(default_factory=dict)
    version_tags: dict[tuple[int, int, str], str | None] = field(default_factory=dict)
    models_gone: list[int] = field(default_factory=list)
    versions_gone: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Models:
    """All registered models, or those that a batch of events can touch."""

    by_offset: dict[int, Model] = field(default_factory=dict)
    by_name: dict[tuple[str, str], int] = field(default_factory=dict)
    versions: dict[int, dict[int, Version]] = field(default_factory=dict)
    aliases: dict[int, dict[str, int]] = field(default_factory=dict)

    def put(self, model: Model) -> None:
        """Add or replace a model."""
        before = self.by_offset.get(model.creation_offset)
        if before is not None and before.name != model.name:
            self._free(before)
        self.by_offset[model.creation_offset] = model
        self.by_name[model.workspace, model.name] = model.creation_offset

    def apply(self, change: RegisteredModelChange) -> None:
        """Apply the result of a fold."""
        for model in change.models.values():
            self.put(model)
        for (creation_offset, number), version in change.versions.items():
            self.versions.setdefault(creation_offset, {})[number] = version
        for (creation_offset, alias), stands_on in change.aliases.items():
            if stands_on is None:
                self.aliases.get(creation_offset, {}).pop(alias, None)
            else:
                self.aliases.setdefault(creation_offset, {})[alias] = stands_on
        for creation_offset, number in change.versions_gone:
            self.versions.get(creation_offset, {}).pop(number, None)
        for creation_offset in change.models_gone:
            self._free(self.by_offset.pop(creation_offset))
            self.versions.pop(creation_offset, None)
            self.aliases.pop(creation_offset, None)

    def _free(self, model: Model) -> None:
        # One batch may swap two names: a name that another model has by now stays with it.
        if self.by_name.get((model.workspace, model.name)) == model.creation_offset:
            del self.by_name[model.workspace, model.name]


def fold(state: Models, record: Record) -> RegisteredModelChange | Rejection:
    """Return what the event changes, to be applied to the state; or why it is rejected."""
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
        version = state.versions.get(model.creation_offset, {}).get(event.version)
        if version is None:
            return _no_version(event.name, event.version)
        return _change_version(state, model, version, event, now)
    return _change_model(state, model, event, record)


def _find(state: Models, workspace: str, name: str) -> Model | None:
    creation_offset = state.by_name.get((workspace, name))
    return None if creation_offset is None else state.by_offset[creation_offset]


def _create(state: Models, event: RegisteredModelCreated, record: Record) -> RegisteredModelChange | Rejection:
    there = _find(state, record.envelope.workspace, event.name)
    if there is not None:
        return _exists(there)
    creation_offset, now = record.position.offset, record.envelope.time_ms
    model = Model(
        creation_offset=creation_offset,
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
        models={creation_offset: model}, model_tags={(creation_offset, key): value for key, value in event.tags.items()}
    )


def _change_model(state: Models, model: Model, event: ModelFact, record: Record) -> RegisteredModelChange | Rejection:
    creation_offset, now = model.creation_offset, record.envelope.time_ms
    match event:
        case RegisteredModelDescribed():
            return RegisteredModelChange(
                models={creation_offset: replace(model, description=event.description, updated_ms=now)}
            )
        case RegisteredModelRenamed():
            taken = _find(state, model.workspace, event.new_name)
            if taken is not None and taken.creation_offset != creation_offset:
                return _exists(taken)
            return RegisteredModelChange(
                models={creation_offset: replace(model, name=event.new_name, updated_ms=now, renamed_ms=now)}
            )
        case RegisteredModelDeleted():
            return RegisteredModelChange(models_gone=[creation_offset])
        case RegisteredModelTagsSet():
            change = RegisteredModelChange(
                model_tags={(creation_offset, key): value for key, value in event.tags.items()}
            )
            if PROMPT_TAG in event.tags:
                change.models[creation_offset] = replace(model, is_prompt=True)
            return change
        case RegisteredModelTagsDeleted():
            change = RegisteredModelChange(model_tags={(creation_offset, key): None for key in event.keys})
            if PROMPT_TAG in event.keys:
                change.models[creation_offset] = replace(model, is_prompt=False)
            return change
        case ModelAliasSet():
            if event.version not in state.versions.get(creation_offset, {}):
                return _no_version(event.name, event.version)
            return RegisteredModelChange(aliases={(creation_offset, event.alias): event.version})
        case ModelAliasDeleted():
            return RegisteredModelChange(aliases={(creation_offset, event.alias): None})
        case ModelVersionCreated():
            return _create_version(model, event, record)
    raise AssertionError(event)


def _create_version(model: Model, event: ModelVersionCreated, record: Record) -> RegisteredModelChange:
    now, number = record.envelope.time_ms, model.last_version + 1
    version = Version(
        creation_offset=model.creation_offset,
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
        models={model.creation_offset: replace(model, last_version=number, updated_ms=now)},
        versions={(model.creation_offset, number): version},
        version_tags={(model.creation_offset, number, key): value for key, value in event.tags.items()},
    )


def _change_version(
    state: Models, model: Model, version: Version, event: VersionFact, now: int
) -> RegisteredModelChange:
    key = (model.creation_offset, version.version)
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
            standing = [
                alias for alias, on in state.aliases.get(model.creation_offset, {}).items() if on == version.version
            ]
            return RegisteredModelChange(
                models={model.creation_offset: replace(model, updated_ms=now)},
                aliases={(model.creation_offset, alias): None for alias in standing},
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
    """Add a move to a stage to a change, which may have moves already."""
    creation_offset = model.creation_offset
    change.models[creation_offset] = replace(model, updated_ms=now)
    if archive_existing:
        for number, before in state.versions.get(creation_offset, {}).items():
            other = change.versions.get((creation_offset, number), before)
            if other.stage == stage and number != version.version:
                change.versions[creation_offset, number] = replace(other, stage=ARCHIVED, updated_ms=now)
    change.versions[creation_offset, version.version] = replace(version, stage=stage, updated_ms=now)


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
            there = state.versions.get(model.creation_offset, {}).get(move.version)
            if there is None:
                return _no_version(move.name, move.version)
            version = change.versions.get((model.creation_offset, move.version), there)
        if move.alias is not None:
            change.aliases[model.creation_offset, move.alias] = move.version
        if move.stage is not None and version is not None:
            _stage(state, change, model, version, move.stage, move.archive_existing, now)
    return change


def _failed_conditions(state: Models, event: ModelsPromoted, workspace: str) -> Iterator[dict[str, object]]:
    """Return each condition that fails: its index, the expected and the actual value, and both as a sentence."""
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
        stands_on = state.aliases.get(model.creation_offset, {}).get(condition.alias)
        if stands_on == wanted:
            return None
        asked = "not to be set" if wanted is None else f"to stand on version {wanted}"
        found = "is not set" if stands_on is None else f"stands on version {stands_on}"
        return f"@{condition.alias} of {name!r} was {asked}, but it {found}", stands_on
    if wanted is None:
        return None
    version = state.versions.get(model.creation_offset, {}).get(wanted)
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
    """Reject: the model has no such version, or no longer."""
    return Rejection(
        RegisteredModelRejection.VERSION_NOT_FOUND,
        f"Model Version (name={name}, version={version}) not found",
        {"name": name, "version": version},
    )
