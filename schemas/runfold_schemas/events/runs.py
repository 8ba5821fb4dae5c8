"""Typed events: one class per schema, in its newest version. Field meanings stand in the `.avsc` files."""

import math
from array import array
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from runfold_schemas.positions.position import Partition

from . import logged_models, registered_models, webhooks
from .artifact_paths import MOST_OWNER_BYTES, MOST_PATH_BYTES, check_path
from .base import DEFAULT_WORKSPACE as DEFAULT_WORKSPACE
from .base import INT64, Count, ExperimentId, Key, Long, Name, RunId, Strings, Text, fits, json_object
from .base import Fact as Fact
from .base import parse_json as parse_json
from .frames import Frame

MAX_MODEL_CHARS = 256 * 1024
MAX_INPUT_TAG_KEY_CHARS = 255

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
TERMINAL: frozenset[str] = frozenset({"FINISHED", "FAILED", "KILLED"})

Owner = Annotated[Text, Field(min_length=1), AfterValidator(fits(MOST_OWNER_BYTES))]
ArtifactPath = Annotated[Text, AfterValidator(check_path), AfterValidator(fits(MOST_PATH_BYTES))]

InputTagKey = Annotated[Text, Field(min_length=1, max_length=MAX_INPUT_TAG_KEY_CHARS)]


class Genesis(Fact):
    subject = "runfold.log.Genesis"
    log_id: Name
    topic: Name
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    partition_count: Count

    def is_of(self, where: Partition, partitions: int) -> bool:
        """Whether it is the genesis of this partition of a topic of so many; garbage may hold another's."""
        return (self.topic, self.partition, self.partition_count) == (where.topic.value, where.partition, partitions)


class SchemaDeclared(Fact):
    subject = "runfold.system.SchemaDeclared"
    schema_id: Count
    declared_subject: Name = Field(alias="subject")
    version: Count
    level: Count
    definition: Text = Field(alias="schema")
    topics: list[Name]


class FeatureLevelRaised(Fact):
    subject = "runfold.system.FeatureLevelRaised"
    level: Count
    release: Name


class ExperimentCreated(Fact):
    subject = "runfold.experiments.ExperimentCreated"
    name: Name
    artifact_location: Text | None = None
    tags: Strings = {}


class ExperimentFact(Fact):
    """Base of the events about an experiment that exists."""

    experiment_id: ExperimentId


class ExperimentRenamed(ExperimentFact):
    subject = "runfold.experiments.ExperimentRenamed"
    name: Name


class ExperimentDeleted(ExperimentFact):
    subject = "runfold.experiments.ExperimentDeleted"


class ExperimentRestored(ExperimentFact):
    subject = "runfold.experiments.ExperimentRestored"


class ExperimentTagsSet(ExperimentFact):
    subject = "runfold.experiments.ExperimentTagsSet"
    tags: Strings


class ExperimentTagsDeleted(ExperimentFact):
    subject = "runfold.experiments.ExperimentTagsDeleted"
    keys: list[Key]


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
    """One use of a data set by a run; (name, digest) identifies the data set."""

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
    """A logged model as a run made it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    model_id: Key
    step: Long


class OutputsLogged(RunFact):
    subject = "runfold.runs.OutputsLogged"
    models: list[ModelOutput]


class ModelLogged(RunFact):
    subject = "runfold.runs.ModelLogged"
    model: Annotated[Text, Field(max_length=MAX_MODEL_CHARS), AfterValidator(json_object)]


class ArtifactFact(Fact):
    """Base of the events about files of an owner: a run, or a folder of the artifact store (see `artifacts.place`)."""

    owner: Owner
    path: ArtifactPath

    @property
    def entity(self) -> str | None:
        return self.owner


class ArtifactStored(ArtifactFact):
    subject = "runfold.runs.ArtifactStored"
    size: Annotated[int, Field(ge=0, lt=INT64)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    object_key: Annotated[Text, Field(min_length=1, max_length=1000)]


class ArtifactsDeleted(ArtifactFact):
    subject = "runfold.runs.ArtifactsDeleted"


class LineFact(RunFact):
    """Base of the events of `metrics` that say how a run's points hang together: attempts, rewinds, forks."""


class AttemptStarted(LineFact):
    subject = "runfold.metrics.AttemptStarted"
    start_step: Long | None = None
    all_ranks: bool = True
    world_size: Count | None = None


class RunRewound(LineFact):
    subject = "runfold.metrics.RunRewound"
    step: Long
    all_ranks: bool = False


class RunForked(LineFact):
    subject = "runfold.metrics.RunForked"
    parent_run_id: RunId
    parent_branch: Annotated[int, Field(ge=0, lt=2**31)]
    step: Long


@dataclass(frozen=True, slots=True)
class MetricsLogged:
    """Metric points of one run. Not a pydantic model: it is the hot path, its codec checks the bounds."""

    subject: ClassVar[str] = "runfold.metrics.MetricsLogged"
    run_id: str
    frames: tuple[Frame, ...]

    @property
    def entity(self) -> str | None:
        return self.run_id

    @property
    def points(self) -> int:
        """Number of points in all frames."""
        return sum(len(frame.values) for frame in self.frames)


Event = Fact | MetricsLogged

_CLASSES: tuple[type[Fact], ...] = (
    Genesis,
    SchemaDeclared,
    FeatureLevelRaised,
    ExperimentCreated,
    ExperimentRenamed,
    ExperimentDeleted,
    ExperimentRestored,
    ExperimentTagsSet,
    ExperimentTagsDeleted,
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
    ArtifactStored,
    ArtifactsDeleted,
    AttemptStarted,
    RunRewound,
    RunForked,
    *registered_models.EVENTS,
    *logged_models.EVENTS,
    *webhooks.EVENTS,
)
FACTS: dict[str, type[Fact]] = {cls.subject: cls for cls in _CLASSES}
"""Event classes by subject."""


def as_json(event: Event) -> dict[str, object]:
    """The event's fields as JSON-ready values; not-a-number and infinities become the strings NaN, Infinity, -Infinity."""
    if isinstance(event, Fact):
        return event.model_dump(by_alias=True)
    return {
        "run_id": event.run_id,
        "frames": [
            {
                "keys": list(f.keys),
                "steps": list(f.steps),
                "times": list(f.times),
                "values": _finite_json(f.values),
                **({"model_id": f.model_id} if f.model_id is not None else {}),
                **({"dataset_name": f.dataset_name} if f.dataset_name is not None else {}),
                **({"dataset_digest": f.dataset_digest} if f.dataset_digest is not None else {}),
            }
            for f in event.frames
        ],
    }


def _finite_json(values: "array[float]") -> list[float | str]:
    return [v if math.isfinite(v) else "NaN" if v != v else "Infinity" if v > 0 else "-Infinity" for v in values]
