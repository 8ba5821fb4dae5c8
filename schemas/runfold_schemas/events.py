"""Typed events: one class per schema, in its newest version. Field meanings stand in the `.avsc` files.

Bounds here are the contract's, for every writer: they keep a record foldable and indexable. APIs may be stricter.
"""

import json
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

from .artifacts import MOST_OWNER_BYTES, MOST_PATH_BYTES, check_path
from .frames import Frame
from .position import Partition

INT64 = 2**63
RUN_ID_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9_\-]{0,255}$"
MAX_KEY_CHARS = 250
MAX_NAME_CHARS = 500
MAX_MODEL_CHARS = 256 * 1024
DEFAULT_WORKSPACE = "default"

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
TERMINAL: frozenset[str] = frozenset({"FINISHED", "FAILED", "KILLED"})


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must not hold a lone surrogate, which UTF-8 can't carry") from None
    return text


def parse_json(text: str) -> Any:
    """A JSON document, at most 200 levels deep and without NaN and infinities, whichever thread or stack reads it. ValueError else."""
    value = from_json(text, allow_inf_nan=False)
    json.dumps(value, allow_nan=False)
    return value


def _json_object(text: str) -> str:
    if not isinstance(parse_json(text), dict):
        raise ValueError("must be a JSON object")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Key = Annotated[Text, Field(min_length=1, max_length=MAX_KEY_CHARS)]
Name = Annotated[Text, Field(min_length=1, max_length=MAX_NAME_CHARS)]
RunId = Annotated[str, Field(pattern=RUN_ID_PATTERN)]
Long = Annotated[int, Field(ge=-INT64, lt=INT64)]
ExperimentId = Annotated[int, Field(ge=0, lt=INT64)]
# Avro's int has 32 bits; fastavro would write more, which no other reader takes.
Count = Annotated[int, Field(ge=1, lt=2**31)]
Strings = dict[Key, Text]


def _fits(most: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if len(text.encode()) > most:
            raise ValueError(f"must have at most {most} bytes in UTF-8")
        return text

    return check


Owner = Annotated[Text, Field(min_length=1), AfterValidator(_fits(MOST_OWNER_BYTES))]
ArtifactPath = Annotated[Text, AfterValidator(check_path), AfterValidator(_fits(MOST_PATH_BYTES))]


class Fact(BaseModel):
    """Base of all events but metrics; `subject` is the Avro record's full name, the CloudEvents type."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    subject: ClassVar[str]

    @property
    def entity(self) -> str | None:
        """Key of the record where the event itself fixes it; None where the workspace or the partition does."""
        return None


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
    tags: Strings = {}


class InputsLogged(RunFact):
    subject = "runfold.runs.InputsLogged"
    datasets: list[DatasetInput] = []
    models: list[Key] = []


class ModelLogged(RunFact):
    subject = "runfold.runs.ModelLogged"
    model: Annotated[Text, Field(max_length=MAX_MODEL_CHARS), AfterValidator(_json_object)]


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

FACTS: dict[str, type[Fact]] = {
    cls.subject: cls
    for cls in (
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
        ModelLogged,
        ArtifactStored,
        ArtifactsDeleted,
        AttemptStarted,
        RunRewound,
        RunForked,
    )
}
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
