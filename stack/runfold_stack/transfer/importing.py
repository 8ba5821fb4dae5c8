"""`runfold import runfold`: a folder that `runfold export` made, through the log like any writer's events.

Everything that is appended has ids and sequences that follow from the folder's bytes, so the folds drop what they have:
an import that is repeated, or goes on after a kill, adds nothing twice. Of a run or a logged model that others made
nothing is changed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from runfold_log.admin import open_log
from runfold_projections.experiments.queries import Experiment, get_experiment_by_name
from runfold_projections.operations.outcomes import read_rejections
from runfold_projections.postgres.connection import Pool, open_pool
from runfold_projections.postgres.read_transaction import read_transaction
from runfold_projections.transfer.runs import WholeRun, whole_runs
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_stack.config.fold_progress import log_ends, until_folded
from runfold_stack.config.services import Services

from .appending import WINDOW_BYTES, Appender
from .events import (
    OUR_STORE,
    Made,
    RunPoints,
    RunRecords,
    create_experiment,
    delete_experiment,
    run_facts,
    tag_experiment,
)
from .importing_models import bring_models
from .layout import FILES, Manifest, open_whole
from .points import read_pieces

_RUNS_AT_ONCE = 200
_STATEMENT_TIMEOUT = 60.0
Progress = Callable[[int, int], None]
"""Called with how many points have been appended, and how many there are."""


@dataclass(slots=True)
class Report:
    """What became of an import.

    `imported` counts runs of this folder, also those that an earlier import of it had brought.
    """

    imported: int = 0
    points: int = 0
    existed: int = 0
    """Runs that were there already, of another origin, and are as in the folder; their points were left alone."""
    conflicts: list[str] = field(default_factory=list)
    """What is there and differs from the folder; it stays as it is there."""
    models: int = 0
    """Logged models of this folder, also those that an earlier import of it had brought."""
    models_existed: int = 0
    artifacts: int = 0
    """Files that the folder names, whose bytes are not in it."""


async def import_export(
    services: Services,
    namespace: str,
    folder: Path,
    *,
    patience: float = 60.0,
    progress: Progress = lambda done, all: None,
) -> Report:
    """Append what the folder holds and the log does not have, and wait until it is folded.

    BadExport: it is no export, or not as it was made; then nothing is appended. FoldsBehind: what was appended is safe,
    but the folds stand still. LogUnavailable: Kafka is away. After both, the same import goes on.
    """
    manifest = Manifest.read(folder)
    experiments, runs, lines, points, models = (open_whole(folder, manifest, name) for name in FILES)
    info = await open_log(services.kafka, namespace)
    async with (
        open_pool(services.postgres, namespace, application="runfold import", timeout=_STATEMENT_TIMEOUT) as pool,
        Appender(services.kafka, info) as appender,
    ):
        await until_folded(pool, await log_ends(services.kafka, info), patience)
        importer = _Importer(manifest.id, appender, pool, patience)
        rows = experiments.read().to_pylist()
        await importer.experiments(rows)
        for batch in runs.iter_batches(batch_size=_RUNS_AT_ONCE):
            await importer.runs(batch.to_pylist())
        for batch in models.iter_batches(batch_size=_RUNS_AT_ONCE) if models is not None else ():
            await importer.models(batch.to_pylist())
        await importer.points(lines, points, progress)
        await importer.deleted_experiments(rows)
        await until_folded(pool, appender.ends, patience)
        return importer.report


class _Importer:
    def __init__(self, export_id: str, appender: Appender, pool: Pool, patience: float) -> None:
        self._id, self._appender, self._pool, self._patience = export_id, appender, pool, patience
        self._experiments: dict[str, Experiment] = {}
        self._left_alone: set[str] = set()
        self._waiting: list[Outgoing] = []
        self._size = 0
        self.report = Report()

    async def experiments(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Create those that are missing; one that exists keeps what it has, and gets the tags that it lacks."""
        for row in rows:
            name = row["name"]
            found = await self._experiment(name)
            if found is None:
                await self._decided([create_experiment(self._id, row)], f"experiment {name!r}")
            elif found.lifecycle_stage == "active" and (tags := tag_experiment(self._id, row, found)):
                await self._decided(tags, f"tags of experiment {name!r}")
            found = await self._experiment(name)
            if found is not None:
                self._experiments[name] = found

    async def _experiment(self, name: str) -> Experiment | None:
        async with self._pool.acquire() as connection:
            return await get_experiment_by_name(connection, DEFAULT_WORKSPACE, name)

    async def deleted_experiments(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Delete those that were deleted where they come from, if this folder's import made them."""
        for row in rows:
            found = self._experiments.get(row["name"])
            if row["lifecycle_stage"] != "deleted" or found is None or found.lifecycle_stage == "deleted":
                continue
            if found.created_ms == row["created_ms"]:
                what = f"the end of experiment {row['name']!r}"
                await self._decided([delete_experiment(self._id, row, found.experiment_id)], what)

    async def _decided(self, made: Sequence[Made], what: str) -> bool:
        """Append, wait for the folds, and note what they refused; whether they took it all."""
        positions = await self._appender.append([one.record for one in made])
        await until_folded(self._pool, self._appender.ends, self._patience)
        asked = [(position, one.event_id) for position, one in zip(positions, made, strict=True)]
        async with self._pool.acquire() as connection:
            refused = [found for found in await read_rejections(connection, asked) if found is not None]
        self.report.conflicts += [f"{what}: {found.message}" for found in refused]
        return not refused

    async def runs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Create these runs, or go on with those that an earlier import of this folder created."""
        async with read_transaction(self._pool) as connection:
            there = {run.run_id: run for run in await whole_runs(connection, [row["run_id"] for row in rows])}
        todo: list[tuple[str, list[Made]]] = []
        for row in rows:
            self.report.artifacts += len(row["artifacts"] or ())
            run_id, experiment = row["run_id"], self._experiments.get(row["experiment"])
            if experiment is None:
                self._left_alone.add(run_id)
                self.report.conflicts.append(f"run {run_id}: its experiment {row['experiment']!r} could not be made")
                continue
            facts = run_facts(self._id, row, experiment, self._appender.level)
            found = there.get(run_id)
            if found is None or found.created_by == facts[0].event_id:
                todo.append((run_id, facts))
                continue
            self._left_alone.add(run_id)
            differences = _differences(row, found)
            self.report.conflicts += [f"run {run_id} is there already: {text}" for text in differences]
            self.report.existed += not differences
        if not todo:
            return
        made = [one for _, facts in todo for one in facts]
        positions = await self._appender.append([one.record for one in made])
        await until_folded(self._pool, self._appender.ends, self._patience)
        asked = [(position, one.event_id) for position, one in zip(positions, made, strict=True)]
        async with self._pool.acquire() as connection:
            outcomes = iter(await read_rejections(connection, asked))
        for run_id, facts in todo:
            refused = [found.message for found in [next(outcomes) for _ in facts] if found is not None]
            self.report.conflicts += [f"run {run_id}: {message}" for message in refused]
            self.report.imported += not refused

    async def models(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Create these logged models, as runs."""
        brought = await bring_models(self._id, rows, self._experiments, self._appender, self._pool, self._patience)
        self.report.models += brought.imported
        self.report.models_existed += brought.existed
        self.report.conflicts += brought.conflicts

    async def points(self, lines: Any, points: Any, progress: Progress) -> None:
        """Append all branches and points but those of skipped runs, each branch before the points that need it."""
        total, done = points.metadata.num_rows, 0
        stories = _RunsOfFile(self._id, lines, self._appender.level)
        who: tuple[str, str, int | None] | None = None
        writers: dict[tuple[str, str, int | None], RunPoints] = {}
        for piece in read_pieces(points):
            run_id, branch, attempt, rank, frame = piece
            done += len(frame.values)
            progress(done, total)
            if who is None or who[0] != run_id:
                await self._append_all(stories.before(run_id))
                writers = {}
            await self._append_all([(run_id, stories.now.until(branch, attempt))])
            who = (run_id, attempt, rank)
            if run_id in self._left_alone:
                continue
            writer = writers.get(who) or writers.setdefault(who, RunPoints(self._id, *who))
            for record, count in writer.write([frame]):
                await self._put(record)
                self.report.points += count
        await self._append_all(stories.before(None))
        await self._send()

    async def _append_all(self, records: Iterable[tuple[str, Sequence[Made]]]) -> None:
        for run_id, made in records:
            if run_id not in self._left_alone:
                for one in made:
                    await self._put(one.record)

    async def _put(self, record: Outgoing) -> None:
        self._waiting.append(record)
        self._size += len(record.value)
        if self._size >= WINDOW_BYTES:
            await self._send()

    async def _send(self) -> None:
        await self._appender.append(self._waiting)
        self._waiting, self._size = [], 0


class _RunsOfFile:
    """The runs of a file of lines, in step with those of the points: both are ordered by id."""

    def __init__(self, export_id: str, file: Any, level: int) -> None:
        rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
        self._id, self._level, self._runs = export_id, level, groupby(rows, itemgetter("run_id"))
        self._next = self._next_run()
        self._run_id = ""
        self.now = RunRecords(export_id, "", ())
        """Of the run whose points come."""

    def _next_run(self) -> tuple[str, RunRecords] | None:
        found = next(self._runs, None)
        return None if found is None else (found[0], RunRecords(self._id, *found, self._level))

    def before(self, run_id: str | None) -> Iterator[tuple[str, list[Made]]]:
        """What is left of runs before this one, which is the next whose points come; None: there is none."""
        yield self._run_id, self.now.remaining()
        while self._next is not None and (run_id is None or self._next[0] < run_id):
            yield self._next[0], self._next[1].remaining()
            self._next = self._next_run()
        self._run_id, self.now = run_id or "", RunRecords(self._id, run_id or "", ())
        if self._next is not None and self._next[0] == run_id:
            self.now, self._next = self._next[1], self._next_run()


def _differences(row: Mapping[str, Any], found: WholeRun) -> list[str]:
    """What is otherwise there than in the folder, in words."""
    there = asdict(found)
    texts = [
        f"{name} is {there[name]!r} there, {row[name]!r} in the export"
        for name in ("experiment", "name", "user_id", "status", "start_ms", "end_ms", "deleted_ms", "models")
        if there[name] != (row[name] or ([] if name == "models" else row[name]))
    ]
    for kind in ("params", "tags"):
        ours, theirs = dict(row[kind]), there[kind]
        texts += [
            f"{kind[:-1]} {key!r} is {theirs.get(key)!r} there, {ours.get(key)!r} in the export"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
    if "outputs" in row and (row["outputs"] or []) != there["outputs"]:
        texts.append("its outputs are others there than in the export")
    datasets = [dataset | {"tags": dict(dataset["tags"])} for dataset in row["datasets"] or ()]
    if datasets != there["datasets"]:
        texts.append("its data sets are others there than in the export")
    # Addresses in an installation's own store differ by the experiment's number.
    if row["artifact_uri"] != found.artifact_uri and not found.artifact_uri.startswith(OUR_STORE):
        texts.append(f"artifact_uri is {found.artifact_uri!r} there, {row['artifact_uri']!r} in the export")
    return texts
