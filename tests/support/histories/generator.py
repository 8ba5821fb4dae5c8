"""Generated logs of one partition: what writers do, and what they do wrong.

From a random source, so that Hypothesis can drive it.

Every event belongs to the contract; conflicts, unknown entities, holes, late and repeated sequences are the fold's
business.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from runfold_projections.core.projection import Projection
from runfold_schemas.codec import wire
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.codec.record import Raw
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored
from runfold_schemas.events.experiments import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagsDeleted,
    ExperimentTagsSet,
)
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunForked, RunRewound
from runfold_schemas.events.runs import (
    DatasetInput,
    InputsLogged,
    ModelLogged,
    ModelOutput,
    OutputsLogged,
    ParamsLogged,
    RunCreated,
    RunDeleted,
    RunRestored,
    RunUpdated,
    TagsDeleted,
    TagsSet,
)
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import PARTITIONED
from tests.support.histories.registry import registry_event

LOG_ID = "log"
WORKSPACES = ("default", "other")
KEYS = ("a", "b", "ü", "mlflow.runName", "mlflow.log-model.history")
TEXTS = ("", "1", "2", "ü")
MODELS = ('{"flavors": {}}', '{"flavors": {}, "artifact_path": "ü"}', "{}")
RUNS = ("r0", "r1", "r2", "r3")
WRITERS = tuple(
    Writer(f"w{n}", "node", rank, attempt) for n, (rank, attempt) in enumerate([(None, ""), (0, "t1"), (1, "t2")])
)
VALUES = (0.0, -0.0, 1.5, -2.0, 1e300, float("nan"), float("inf"), float("-inf"))
STEPS = (0, 1, 2, -1, 2**62)
FILES = ("a", "a/b", "a/b/c", "ab", "ü/ b%.txt")


@dataclass
class Scribe:
    """Appends to one partition of a log that exists only here. `parts` is the topic's number of partitions."""

    where: Partition
    parts: int = 1
    log: list[Raw] = field(default_factory=list)
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)

    def append(
        self,
        event: Event,
        *,
        writer: Writer = WRITERS[0],
        sequence: int | None = None,
        workspace: str = "default",
        event_id: str | None = None,
    ) -> Raw:
        """An event as its writer would append it; without a sequence, the writer's next one."""
        key = event.entity or workspace
        if sequence is None:
            sequence = self.sequences.get((key, writer.id), 0)
        self.sequences[key, writer.id] = max(sequence + 1, self.sequences.get((key, writer.id), 0))
        offset = len(self.log)
        envelope = Envelope(
            event_id or str(UUID(int=offset + 1)),
            event.subject,
            1000 + offset,
            writer,
            sequence,
            workspace=workspace,
        )
        raw = Raw(Position(*self.where, offset), 5000 + offset, key.encode(), wire.encode(event), envelope.headers())
        self.log.append(raw)
        return raw

    def genesis(self) -> None:
        """The record at the start of the partition."""
        topic, partition = self.where
        genesis = Genesis(log_id=LOG_ID, topic=topic.value, partition=partition, partition_count=self.parts)
        self.append(genesis, writer=Writer("starter"))

    def copy(self, raw: Raw) -> None:
        """The same record once more, as a writer that was not answered sends it."""
        self.log.append(
            Raw(Position(*self.where, len(self.log)), 5000 + len(self.log), raw.key, raw.value, raw.headers)
        )


def history(projection: Projection, rng: Random, length: int, repeats: bool = True) -> list[Raw]:
    """A log of one partition that begins with its genesis. `repeats` lets records stand in it twice."""
    scribe = Scribe(Partition(projection.topic, 0))
    scribe.genesis()
    event: Callable[[Random], Event] = _EVENTS[projection]
    while len(scribe.log) <= length:
        if repeats and rng.random() < 0.15:
            scribe.copy(rng.choice(scribe.log))
            continue
        made = event(rng)
        writer, workspace = (
            rng.choice(WRITERS),
            rng.choice(WORKSPACES) if projection.topic not in PARTITIONED else "default",
        )
        reached = scribe.sequences.get((made.entity or workspace, writer.id), 0)
        # Mostly the next number; else a hole, which a later event may fill, or a number that may have been used.
        sequence = rng.choice([reached, reached, reached, reached + 2, max(0, reached - 1), max(0, reached - 2)])
        scribe.append(made, writer=writer, workspace=workspace, sequence=sequence if repeats else None)
    return scribe.log


def _some(rng: Random, values: Sequence[str], most: int) -> list[str]:
    return rng.sample(values, rng.randint(0, most))


def _pairs(rng: Random) -> dict[str, str]:
    return {key: rng.choice(TEXTS) for key in _some(rng, KEYS, 3)}


def _experiment(rng: Random) -> Event:
    number, name = rng.randint(0, 6), rng.choice(["one", "two", "three", "four", "five", "Default"])
    kind = rng.randint(0, 9)
    if kind < 4:
        return ExperimentCreated(name=name, artifact_location=rng.choice([None, "s3://b/1"]), tags=_pairs(rng))
    if kind < 6:
        return ExperimentRenamed(experiment_id=number, name=name)
    if kind == 6:
        return ExperimentDeleted(experiment_id=number)
    if kind == 7:
        return ExperimentRestored(experiment_id=number)
    if kind == 8:
        return ExperimentTagsSet(experiment_id=number, tags=_pairs(rng))
    return ExperimentTagsDeleted(experiment_id=number, keys=_some(rng, KEYS, 2))


def _run(rng: Random) -> Event:
    run_id, kind = rng.choice(RUNS), rng.randint(0, 17)
    if kind == 17:
        models = [
            ModelOutput(model_id=rng.choice(["m1", "m2"]), step=rng.choice(STEPS)) for _ in range(rng.randint(0, 3))
        ]
        return OutputsLogged(run_id=run_id, models=models)
    if kind > 12:
        return _artifact(rng, run_id)
    if kind < 3:
        return RunCreated(
            run_id=run_id,
            experiment_id=rng.choice([1, 1, 1, 2]),
            name=rng.choice(["", "n1", "n2"]),
            user_id=rng.choice(TEXTS),
            start_ms=rng.randint(-5, 5),
            artifact_uri="s3://b/1/r",
            tags=_pairs(rng),
        )
    if kind == 3:
        return RunUpdated(
            run_id=run_id,
            status=rng.choice([None, "FINISHED", "RUNNING"]),
            end_ms=rng.choice([None, 7]),
            name=rng.choice([None, "", "n3"]),
        )
    if kind == 4:
        return RunDeleted(run_id=run_id)
    if kind == 5:
        return RunRestored(run_id=run_id)
    if kind < 8:
        return ParamsLogged(run_id=run_id, params=_pairs(rng))
    if kind == 8:
        return TagsSet(run_id=run_id, tags=_pairs(rng))
    if kind == 9:
        return TagsDeleted(run_id=run_id, keys=_some(rng, KEYS, 2))
    if kind == 10:
        return ModelLogged(run_id=run_id, model=rng.choice(MODELS))
    datasets = [
        DatasetInput(
            name=rng.choice(["d1", "d2"]),
            digest=rng.choice(["x", "y"]),
            source_type="local",
            source=rng.choice(TEXTS),
            schema=rng.choice([None, "{}"]),
            tags=_pairs(rng),
        )
        for _ in range(rng.randint(0, 3))
    ]
    return InputsLogged(
        run_id=run_id, datasets=datasets, models=[rng.choice(["m1", "m2"]) for _ in range(rng.randint(0, 3))]
    )


def frame(rng: Random) -> Frame:
    """A frame with few keys, steps, times and values, so that ties of every kind happen."""
    keys = tuple(_some(rng, KEYS[:3], 3))
    rows = rng.randint(0, 4)
    return Frame(
        keys,
        array("q", [rng.choice(STEPS) for _ in range(rows)]),
        array("q", [rng.choice([0, 0, 1, -7]) for _ in range(rows)]),
        array("d", [rng.choice(VALUES) for _ in range(rows * len(keys))]),
        rng.choice([None, None, "", "m1"]),
        rng.choice([None, None, "", "d1"]),
        rng.choice([None, None, "", "x"]),
    )


def _metrics(rng: Random) -> Event:
    run_id, kind = rng.choice(RUNS), rng.randint(0, 39)
    if kind == 0:
        return RunForked(
            run_id=run_id, parent_run_id=rng.choice(RUNS), parent_branch=rng.randint(0, 3), step=rng.choice(STEPS)
        )
    if kind < 3:
        start = rng.choice([None, *STEPS])
        return AttemptStarted(
            run_id=run_id, start_step=start, all_ranks=rng.random() < 0.7, world_size=rng.choice([None, 2])
        )
    if kind < 5:
        return RunRewound(run_id=run_id, step=rng.choice(STEPS), all_ranks=rng.random() < 0.4)
    return MetricsLogged(run_id, tuple(frame(rng) for _ in range(rng.randint(0, 3))))


def _artifact(rng: Random, run_id: str) -> Event:
    owner = rng.choice([run_id, run_id, "/", "1/models/m-1/artifacts"])
    if rng.random() < 0.3:
        return ArtifactsDeleted(owner=owner, path=rng.choice(["", *FILES]))
    return ArtifactStored(
        owner=owner,
        path=rng.choice(FILES),
        size=rng.randint(0, 9),
        sha256=f"{rng.randint(0, 2**256 - 1):064x}",
        object_key=f"o{rng.randint(0, 99)}",
    )


_EVENTS: dict[Projection, Callable[[Random], Event]] = {
    Projection.EXPERIMENTS: _experiment,
    Projection.REGISTRY: registry_event,
    Projection.RUNS: _run,
    Projection.METRICS: _metrics,
}


def cut(rng: Random, raws: Sequence[Raw], most: int = 7) -> list[list[Raw]]:
    """The log in batches of random sizes."""
    batches, at = [], 0
    while at < len(raws):
        size = rng.randint(1, most)
        batches.append(list(raws[at : at + size]))
        at += size
    return batches
