"""Events of runs. Field meanings are in the `.avsc` files."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .base import ExperimentId, Fact, Key, Long, Name, RunId, Strings, Text, json_object

MAX_MODEL_CHARS = 256 * 1024
"""Longest JSON of a model that `ModelLogged` takes, in characters."""
MAX_INPUT_TAG_KEY_CHARS = 255

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]

InputTagKey = Annotated[Text, Field(min_length=1, max_length=MAX_INPUT_TAG_KEY_CHARS)]


class RunFact(Fact):
    """Base of the events of a run."""

    run_id: RunId

    @property
    def entity(self) -> str | None:
        return self.run_id


class RunCreated(RunFact):
    subject = "runfold.runs.RunCreated"
    experiment_id: ExperimentId
    name: Text
    user_id: Text = ""
    start_ms: Long
    artifact_uri: Text
    tags: Strings = {}


class RunUpdated(RunFact):
    subject = "runfold.runs.RunUpdated"
    status: RunStatus | None = None
    end_ms: Long | None = None
    name: Text | None = None


class RunDeleted(RunFact):
    subject = "runfold.runs.RunDeleted"


class RunRestored(RunFact):
    subject = "runfold.runs.RunRestored"


class ParamsLogged(RunFact):
    subject = "runfold.runs.ParamsLogged"
    params: Strings


class TagsSet(RunFact):
    subject = "runfold.runs.TagsSet"
    tags: Strings


class TagsDeleted(RunFact):
    subject = "runfold.runs.TagsDeleted"
    keys: list[Key]


class DatasetInput(BaseModel):
    """A dataset that a run used. (name, digest) identifies the dataset."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    name: Name
    digest: Key
    source_type: Text
    source: Text
    definition: Text | None = Field(default=None, alias="schema")
    profile: Text | None = None
    tags: dict[InputTagKey, Text] = {}


class InputsLogged(RunFact):
    subject = "runfold.runs.InputsLogged"
    datasets: list[DatasetInput] = []
    models: list[Key] = []


class ModelOutput(BaseModel):
    """A logged model that a run made, at this step."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    model_id: Key
    step: Long


class OutputsLogged(RunFact):
    subject = "runfold.runs.OutputsLogged"
    models: list[ModelOutput]


class ModelLogged(RunFact):
    subject = "runfold.runs.ModelLogged"
    model: Annotated[Text, Field(max_length=MAX_MODEL_CHARS), AfterValidator(json_object)]


EVENTS: tuple[type[Fact], ...] = (
    RunCreated,
    RunUpdated,
    RunDeleted,
    RunRestored,
    ParamsLogged,
    TagsSet,
    TagsDeleted,
    InputsLogged,
    OutputsLogged,
    ModelLogged,
)
"""Event classes of this module."""
