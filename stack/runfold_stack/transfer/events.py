"""What an import appends: the same events under the same ids and sequences, however often and from wherever a folder is
imported.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid5

from pydantic import ValidationError

from runfold.pipeline.encoder import RunEncoder
from runfold_projections.experiments.queries import Experiment
from runfold_projections.runs.fold import RUN_NAME_TAG
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.catalog import FEATURE_LEVEL
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.errors import SchemaError
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.experiments import ExperimentCreated, ExperimentDeleted, ExperimentTagsSet
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunForked, RunRewound
from runfold_schemas.events.runs import (
    DatasetInput,
    InputsLogged,
    ModelOutput,
    OutputsLogged,
    ParamsLogged,
    RunCreated,
    RunDeleted,
    RunUpdated,
    TagsDeleted,
    TagsSet,
)
from runfold_schemas.ids import Ids
from runfold_schemas.positions.topics import Topic
from runfold_stack.errors import BadExport

CUTS = 1
"""To be raised with every change of which events a row becomes and where points are cut into records: an import that
was begun by another release then starts its count again, instead of taking one record for another.
"""
_SPACE = UUID("7a2d9b3e-6f0c-5b41-9d58-2f4f0a4c7e11")
_MOST_BYTES = 256 * 1024
_MOST_OUTPUTS = 500
OUR_STORE = "mlflow-artifacts:"
"""What addresses in an installation's own artifact store begin with; they hold the experiment's id there."""


class DerivedIds(Ids):
    """Ids that follow from what they are for, and from their number."""

    def __init__(self, *names: str) -> None:
        self._base, self._count = uuid5(_SPACE, "\0".join((str(CUTS), *names))), 0

    def event_id(self) -> str:
        self._count += 1
        return str(uuid5(self._base, str(self._count)))


@dataclass(frozen=True, slots=True)
class Made:
    """A record and its event's id."""

    record: Outgoing
    event_id: str


class Scribe:
    """One writer of facts about one entity."""

    def __init__(self, export_id: str, topic: Topic, entity: str, *names: str, level: int = FEATURE_LEVEL) -> None:
        self._level = level
        self._ids = DerivedIds(export_id, topic.value, entity, *names)
        self._writer, self._topic, self._entity, self._sequence = Writer(self._ids.event_id()), topic, entity, 0

    def write(self, event: Event, time_ms: int, *, attempt: str = "", rank: int | None = None) -> Made:
        """The next record; its time is when the fact became one, where the fold keeps that."""
        writer = replace(self._writer, attempt=attempt, rank=rank)
        envelope = Envelope(self._ids.event_id(), event.subject, time_ms, writer, self._sequence)
        self._sequence += 1
        return Made(
            Outgoing(self._topic, self._entity.encode(), wire.encode(event, self._level), envelope.headers()),
            envelope.event_id,
        )


def create_experiment(export_id: str, row: Mapping[str, Any]) -> Made:
    """The experiment, with its tags. An address in the store of the installation that it comes from is left out."""
    with_ = Fields(f"experiment {row['name']!r}")
    location = str(row["artifact_location"] or "")
    event = with_.build(
        ExperimentCreated,
        name=row["name"],
        artifact_location=None if location.startswith(OUR_STORE) else location,
        tags=dict(row["tags"]),
    )
    return Scribe(export_id, Topic.EXPERIMENTS, DEFAULT_WORKSPACE, row["name"]).write(event, row["created_ms"])


def tag_experiment(export_id: str, row: Mapping[str, Any], there: Experiment) -> list[Made]:
    """Tags that an experiment lacks which is there already, such as the one that every installation has."""
    with_ = Fields(f"experiment {row['name']!r}")
    scribe = Scribe(export_id, Topic.EXPERIMENTS, DEFAULT_WORKSPACE, row["name"], "tags")
    lacking = {key: value for key, value in dict(row["tags"]).items() if key not in there.tags}
    return [
        scribe.write(
            with_.build(ExperimentTagsSet, experiment_id=there.experiment_id, tags=part),
            row["updated_ms"],
        )
        for part in parts_of(lacking)
    ]


def delete_experiment(export_id: str, row: Mapping[str, Any], experiment_id: int) -> Made:
    """The end of an experiment that is deleted where it comes from."""
    scribe = Scribe(export_id, Topic.EXPERIMENTS, DEFAULT_WORKSPACE, row["name"], "deleted")
    return scribe.write(ExperimentDeleted(experiment_id=experiment_id), row["updated_ms"])


def run_facts(export_id: str, row: Mapping[str, Any], experiment: Experiment, level: int = FEATURE_LEVEL) -> list[Made]:
    """All of a run but its points, in order; the first creates it."""
    run_id = str(row["run_id"])
    fields, scribe = Fields(f"run {run_id}"), Scribe(export_id, Topic.RUNS, run_id, level=level)
    tags: dict[str, str] = dict(row["tags"])
    address = str(row["artifact_uri"])
    if address.startswith(OUR_STORE):
        address = f"{experiment.artifact_location.rstrip('/')}/{run_id}/artifacts"
    created = {"experiment_id": experiment.experiment_id, "user_id": row["user_id"], "start_ms": row["start_ms"]}
    events: list[Event] = [fields.build(RunCreated, run_id=run_id, name=row["name"], artifact_uri=address, **created)]
    events += [fields.build(ParamsLogged, run_id=run_id, params=part) for part in parts_of(dict(row["params"]))]
    events += [fields.build(TagsSet, run_id=run_id, tags=part) for part in parts_of(tags)]
    if row["name"] and RUN_NAME_TAG not in tags:
        events.append(fields.build(TagsDeleted, run_id=run_id, keys=[RUN_NAME_TAG]))
    for dataset in row["datasets"] or ():
        given = fields.build(DatasetInput, **{**dataset, "tags": dict(dataset["tags"])})
        events.append(fields.build(InputsLogged, run_id=run_id, datasets=[given]))
    if row["models"]:
        events.append(fields.build(InputsLogged, run_id=run_id, models=list(row["models"])))
    outputs = [fields.build(ModelOutput, **one) for one in row.get("outputs") or ()]
    events += [
        fields.build(OutputsLogged, run_id=run_id, models=outputs[start : start + _MOST_OUTPUTS])
        for start in range(0, len(outputs), _MOST_OUTPUTS)
    ]
    if row["status"] != "RUNNING" or row["end_ms"] is not None:
        events.append(fields.build(RunUpdated, run_id=run_id, status=row["status"], end_ms=row["end_ms"]))
    if row["deleted_ms"] is not None:
        events.append(fields.build(RunDeleted, run_id=run_id))
    try:
        return [
            scribe.write(event, row["deleted_ms"] if isinstance(event, RunDeleted) else row["start_ms"])
            for event in events
        ]
    except (SchemaError, OverflowError) as error:
        raise BadExport(f"run {run_id}: {error}") from None


class RunRecords:
    """The branches of a run as records, each before the points on the branch that it opens."""

    def __init__(
        self, export_id: str, run_id: str, lines: Iterable[Mapping[str, Any]], level: int = FEATURE_LEVEL
    ) -> None:
        self._scribe, self._fields = (
            Scribe(export_id, Topic.METRICS, run_id, level=level),
            Fields(f"lines of run {run_id}"),
        )
        self._lines = list(lines)
        # The first record of each attempt, until it is returned.
        self._coming = {line["attempt"]: line for line in reversed(self._lines)}

    def until(self, branch: int, attempt: str) -> list[Made]:
        """The next ones, up to that which opens a branch, and that by which an attempt appears: writers that name none
        open no branch.
        """
        due: list[Made] = []
        while self._lines and (_first_number(self._lines[0]) <= branch or attempt in self._coming):
            due.append(self._next())
        return due

    def remaining(self) -> list[Made]:
        """Return the remaining records."""
        return [self._next() for _ in range(len(self._lines))]

    def _next(self) -> Made:
        line = self._lines.pop(0)
        if self._coming.get(line["attempt"]) is line:
            del self._coming[line["attempt"]]
        rank = None if line["rank"] is None or line["rank"] < 0 else line["rank"]
        try:
            return self._scribe.write(self._event(line), 0, attempt=line["attempt"], rank=rank)
        except SchemaError as error:
            raise BadExport(f"lines of run {line['run_id']}: {error}") from None

    def _event(self, line: Mapping[str, Any]) -> Event:
        run_id, step, everyone = line["run_id"], line["step"], line["rank"] is None
        match line["kind"]:
            case "appeared":
                # A record without points: all that is known of it is that there was one.
                return MetricsLogged(run_id, ())
            case "started":
                size = line["world_size"]
                event = self._fields.build(
                    AttemptStarted, run_id=run_id, start_step=step, all_ranks=everyone, world_size=size
                )
            case "rewound":
                event = self._fields.build(RunRewound, run_id=run_id, step=step, all_ranks=everyone)
            case "forked":
                parent = {"parent_run_id": line["parent_run_id"], "parent_branch": line["parent_branch"]}
                event = self._fields.build(RunForked, run_id=run_id, step=step, **parent)
            case kind:
                raise BadExport(f"lines of run {run_id}: {kind!r} is no kind of line")
        return event  # type: ignore[no-any-return]


def _first_number(line: Mapping[str, Any]) -> int:
    return min((n for n in (line["attempt_branch"], line["cut"]) if n is not None), default=0)


class RunPoints:
    """One writer of the points of one rank of one attempt of a run; frames must come in the export's order."""

    def __init__(self, export_id: str, run_id: str, attempt: str, rank: int | None) -> None:
        ids = DerivedIds(export_id, Topic.METRICS.value, run_id, attempt, "" if rank is None else str(rank))
        self._encoder = RunEncoder(run_id, ids, rank=rank, attempt=attempt)

    def write(self, frames: Iterable[Frame]) -> list[tuple[Outgoing, int]]:
        """The next records, each with its number of points."""
        try:
            return self._encoder.metrics(frames)
        except (ValueError, SchemaError) as error:
            raise BadExport(f"points of run {self._encoder.run_id}: {error}") from None


class Fields:
    """Builds events out of a row; BadExport names what the row is and the field that can't be."""

    def __init__(self, what: str) -> None:
        self._what = what

    def build(self, kind: Any, **fields: Any) -> Any:
        try:
            return kind(**fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadExport(f"{self._what}: {where}: {first['msg']}") from None


def parts_of(pairs: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Pairs in parts that a record can hold."""
    part: dict[str, str] = {}
    size = 0
    for key, value in pairs.items():
        cost = len(key.encode()) + len(value.encode()) + 10
        if part and size + cost > _MOST_BYTES:
            yield part
            part, size = {}, 0
        part[key] = value
        size += cost
    if part:
        yield part
