"""Events of `registry` about logged models: models, or checkpoints of one, that trainings keep.

Field meanings stand in the `.avsc` files.
"""

from typing import Annotated, Literal

from pydantic import Field

from .base import RUN_ID_PATTERN, ExperimentId, Fact, Key, Name, RunId, Strings, Text

MODEL_ID_PATTERN = RUN_ID_PATTERN
"""Wider than MLflow's `m-` and 32 hexadecimal digits: any writer may make ids."""

ModelId = Annotated[str, Field(pattern=MODEL_ID_PATTERN)]
ModelStatus = Literal["PENDING", "READY", "FAILED"]


class LoggedModelFact(Fact):
    """Base of the events about one logged model. Their order is that of the workspace's."""

    model_id: ModelId


class LoggedModelCreated(LoggedModelFact):
    subject = "runfold.registry.LoggedModelCreated"
    experiment_id: ExperimentId
    name: Name
    artifact_uri: Text
    model_type: Text | None = None
    source_run_id: RunId | None = None
    params: Strings = {}
    tags: Strings = {}


class LoggedModelParamsLogged(LoggedModelFact):
    subject = "runfold.registry.LoggedModelParamsLogged"
    params: Strings


class LoggedModelFinalized(LoggedModelFact):
    subject = "runfold.registry.LoggedModelFinalized"
    status: ModelStatus


class LoggedModelTagsSet(LoggedModelFact):
    subject = "runfold.registry.LoggedModelTagsSet"
    tags: Strings


class LoggedModelTagsDeleted(LoggedModelFact):
    subject = "runfold.registry.LoggedModelTagsDeleted"
    keys: list[Key]


class LoggedModelDeleted(LoggedModelFact):
    subject = "runfold.registry.LoggedModelDeleted"


EVENTS: tuple[type[Fact], ...] = (
    LoggedModelCreated,
    LoggedModelParamsLogged,
    LoggedModelFinalized,
    LoggedModelTagsSet,
    LoggedModelTagsDeleted,
    LoggedModelDeleted,
)
