"""Events of registered models, their versions and aliases, on the `registry` topic.

Field meanings stand in the `.avsc` files.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .base import Count, Fact, Key, Strings, Text

MAX_MODEL_NAME_CHARS = 256
MAX_ALIAS_CHARS = 255
MOST_IN_A_PROMOTION = 100
"""Conditions, and moves, that one promotion may have."""

_RESERVED_ALIAS = re.compile(r"latest|[vV][0-9]+", re.IGNORECASE)

Stage = Literal["None", "Staging", "Production", "Archived"]


def _alias(text: str) -> str:
    if _RESERVED_ALIAS.fullmatch(text):
        raise ValueError("must not be latest or v and a number, which always mean a version by themselves")
    return text


ModelName = Annotated[Text, Field(min_length=1, max_length=MAX_MODEL_NAME_CHARS, pattern=r"^[^/:]+$")]
Alias = Annotated[Text, Field(min_length=1, max_length=MAX_ALIAS_CHARS, pattern=r"^[\w\-]+$"), AfterValidator(_alias)]
AnyAlias = Annotated[Text, Field(min_length=1, max_length=MAX_ALIAS_CHARS)]


class RegisteredModelFact(Fact):
    """Base of all events of this module. They are keyed by the workspace: one order for all models."""


class ModelFact(RegisteredModelFact):
    """Base of the events about one registered model, by the name that it has at this place of the log."""

    name: ModelName


class RegisteredModelCreated(ModelFact):
    subject = "runfold.registry.RegisteredModelCreated"
    description: Text | None = None
    tags: Strings = {}


class RegisteredModelDescribed(ModelFact):
    subject = "runfold.registry.RegisteredModelDescribed"
    description: Text | None = None


class RegisteredModelRenamed(ModelFact):
    subject = "runfold.registry.RegisteredModelRenamed"
    new_name: ModelName


class RegisteredModelDeleted(ModelFact):
    subject = "runfold.registry.RegisteredModelDeleted"


class RegisteredModelTagsSet(ModelFact):
    subject = "runfold.registry.RegisteredModelTagsSet"
    tags: Strings


class RegisteredModelTagsDeleted(ModelFact):
    subject = "runfold.registry.RegisteredModelTagsDeleted"
    keys: list[Key]


class ModelAliasSet(ModelFact):
    subject = "runfold.registry.ModelAliasSet"
    alias: Alias
    version: Count


class ModelAliasDeleted(ModelFact):
    subject = "runfold.registry.ModelAliasDeleted"
    alias: AnyAlias


class ModelVersionCreated(ModelFact):
    subject = "runfold.registry.ModelVersionCreated"
    source: Text
    storage_location: Text | None = None
    run_id: Text | None = None
    run_link: Text | None = None
    model_id: Text | None = None
    description: Text | None = None
    tags: Strings = {}


class VersionFact(ModelFact):
    """Base of the events about one version."""

    version: Count


class ModelVersionDescribed(VersionFact):
    subject = "runfold.registry.ModelVersionDescribed"
    description: Text | None = None


class ModelVersionStaged(VersionFact):
    subject = "runfold.registry.ModelVersionStaged"
    stage: Stage
    archive_existing: bool = False


class ModelVersionDeleted(VersionFact):
    subject = "runfold.registry.ModelVersionDeleted"


class ModelVersionTagsSet(VersionFact):
    subject = "runfold.registry.ModelVersionTagsSet"
    tags: Strings


class ModelVersionTagsDeleted(VersionFact):
    subject = "runfold.registry.ModelVersionTagsDeleted"
    keys: list[Key]


class PromotionCondition(BaseModel):
    """What must hold for a promotion to take effect: that an alias stands on a version (None: on none); or that a
    version is there, and in a stage if one is given; or, with neither alias nor version, that the model is there.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    name: ModelName
    alias: AnyAlias | None = None
    version: Count | None = None
    stage: Stage | None = None

    @model_validator(mode="after")
    def _is_one_condition(self) -> Any:
        if self.stage is not None and (self.alias is not None or self.version is None):
            raise ValueError("a stage is a condition on a version alone, not on an alias or a model")
        return self


class PromotionMove(BaseModel):
    """One change of a promotion: an alias is set on a version (None: taken away), or a version moves to a stage, or
    both.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    name: ModelName
    version: Count | None = None
    alias: Alias | None = None
    stage: Stage | None = None
    archive_existing: bool = False

    @model_validator(mode="after")
    def _moves_something(self) -> Any:
        if self.alias is None and self.stage is None:
            raise ValueError("a move names an alias, a stage, or both")
        if self.version is None and self.stage is not None:
            raise ValueError("a stage is given to a version: name it")
        if self.archive_existing and self.stage not in ("Staging", "Production"):
            raise ValueError("archive_existing goes with the stages Staging and Production only")
        return self


class ModelsPromoted(RegisteredModelFact):
    subject = "runfold.registry.ModelsPromoted"
    conditions: Annotated[list[PromotionCondition], Field(max_length=MOST_IN_A_PROMOTION)] = []
    moves: Annotated[list[PromotionMove], Field(min_length=1, max_length=MOST_IN_A_PROMOTION)]
    comment: Text = ""


EVENTS: tuple[type[RegisteredModelFact], ...] = (
    RegisteredModelCreated,
    RegisteredModelDescribed,
    RegisteredModelRenamed,
    RegisteredModelDeleted,
    RegisteredModelTagsSet,
    RegisteredModelTagsDeleted,
    ModelAliasSet,
    ModelAliasDeleted,
    ModelVersionCreated,
    ModelVersionDescribed,
    ModelVersionStaged,
    ModelVersionDeleted,
    ModelVersionTagsSet,
    ModelVersionTagsDeleted,
    ModelsPromoted,
)
"""Event classes of this module."""
