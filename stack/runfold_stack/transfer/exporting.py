"""`runfold export`: out of the tables, in one snapshot that holds all that was acknowledged before."""

import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runfold_log.admin import open_log
from runfold_projections.experiments.queries import get_experiment
from runfold_projections.postgres.connection import Connection, open_pool
from runfold_projections.postgres.read_transaction import checkpoints, read_transaction
from runfold_projections.transfer import models as exporting_models
from runfold_projections.transfer import runs as exporting
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_stack.config.fold_progress import log_ends, until_folded
from runfold_stack.config.release import RELEASE
from runfold_stack.config.services import Services
from runfold_stack.errors import BadExport, NothingChosen

from .layout import EXPERIMENTS, LINES, MODELS, POINTS, RUNS, SCHEMAS, FileFacts, Manifest, facts_of
from .points import PointsFile

_RUNS_AT_ONCE = 200
_STATEMENT_TIMEOUT = 600.0
Progress = Callable[[int, int], None]
"""Called with how many points are done, and how many there are, about."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runs, with the logged models that they made, took or measured: of these experiments (None: all), which
    match a filter as MLflow's search takes it, with these ids (None: all).
    """

    experiments: tuple[str, ...] | None = None
    filter: str = ""
    run_ids: tuple[str, ...] | None = None


async def export(
    services: Services,
    namespace: str,
    folder: Path,
    choice: Choice,
    *,
    patience: float = 60.0,
    progress: Progress = lambda done, all: None,
) -> Manifest:
    """Write the folder, which must not exist; one that is not whole is never seen under that name.

    BadExport: it exists. NothingChosen: no such experiment or run. FoldsBehind: the tables stand still before the log's
    end.
    """
    _check_free(folder)
    info = await open_log(services.kafka, namespace)
    ends = await log_ends(services.kafka, info)
    async with open_pool(
        services.postgres, namespace, application="runfold export", timeout=_STATEMENT_TIMEOUT
    ) as pool:
        await until_folded(pool, ends, patience)
        async with read_transaction(pool) as connection, _whole(folder) as parts:
            positions = {str(where): offset for where, offset in sorted((await checkpoints(connection)).items())}
            manifest = Manifest(RELEASE, namespace, info.log_id, time.time_ns() // 1_000_000, asdict(choice), positions)
            ids, models = await _chosen(connection, choice)
            names = await _write_runs(connection, parts / RUNS, ids)
            manifest.files[RUNS] = facts_of(parts / RUNS, len(ids))
            names |= await _write_models(connection, parts / MODELS, models)
            manifest.files[MODELS] = facts_of(parts / MODELS, len(models))
            manifest.files[EXPERIMENTS] = await _write_experiments(connection, parts / EXPERIMENTS, sorted(names))
            manifest.files[LINES] = await _write_lines(connection, parts / LINES, ids)
            manifest.files[POINTS] = await _write_points(connection, parts / POINTS, ids, progress)
            manifest.write(parts)
    return manifest


def _check_free(folder: Path) -> None:
    if os.path.lexists(folder):
        raise BadExport(f"{folder} exists already; name a folder that does not")


@asynccontextmanager
async def _whole(folder: Path) -> AsyncIterator[Path]:
    parts = folder.parent / f".{folder.name}.{os.getpid()}.part"
    parts.mkdir(mode=0o700, parents=True)
    try:
        yield parts
        for part in parts.iterdir():
            part.chmod(0o600)  # still so when it is copied out of the folder
        parts.rename(folder)
    except BaseException:
        shutil.rmtree(parts, ignore_errors=True)
        raise


async def _chosen(connection: Connection, choice: Choice) -> tuple[list[str], list[str]]:
    """Ids of runs and of logged models."""
    experiments = await exporting.experiment_ids(connection, DEFAULT_WORKSPACE, choice.experiments)
    for name in choice.experiments or ():
        if name not in experiments:
            raise NothingChosen(f"there is no experiment {name!r}")
    ids = await exporting.chosen_runs(connection, list(experiments.values()), choice.filter, choice.run_ids)
    left_out = set(choice.run_ids or ()) - set(ids)
    if missing := left_out - {run.run_id for run in await exporting.whole_runs(connection, sorted(left_out))}:
        raise NothingChosen(f"there is no run {', '.join(sorted(missing))}")
    # Models that no exported run names come with their experiment, if it comes whole.
    whole = [] if choice.filter or choice.run_ids is not None else list(experiments.values())
    return ids, await exporting_models.chosen_models(connection, DEFAULT_WORKSPACE, ids, whole)


async def _write_runs(connection: Connection, path: Path, ids: Sequence[str]) -> set[str]:
    """Names of the runs' experiments."""
    names: set[str] = set()
    with pq.ParquetWriter(path, SCHEMAS[RUNS], compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            runs = await exporting.whole_runs(connection, ids[start : start + _RUNS_AT_ONCE])
            names.update(run.experiment for run in runs)
            writer.write_table(pa.Table.from_pylist([_row(run) for run in runs], SCHEMAS[RUNS]))
    return names


async def _write_models(connection: Connection, path: Path, ids: Sequence[str]) -> set[str]:
    """Names of the models' experiments."""
    names: set[str] = set()
    with pq.ParquetWriter(path, SCHEMAS[MODELS], compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            models = await exporting_models.whole_models(connection, ids[start : start + _RUNS_AT_ONCE])
            names.update(model.experiment for model in models)
            rows = [
                asdict(one) | {"params": list(one.params.items()), "tags": list(one.tags.items())} for one in models
            ]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMAS[MODELS]))
    return names


def _row(run: exporting.WholeRun) -> dict[str, Any]:
    row = asdict(run)
    for name in ("params", "tags"):
        row[name] = list(row[name].items())
    for dataset in row["datasets"]:
        dataset["tags"] = list(dataset["tags"].items())
    return row


async def _write_experiments(connection: Connection, path: Path, names: Sequence[str]) -> FileFacts:
    ids = await exporting.experiment_ids(connection, DEFAULT_WORKSPACE, names)
    rows = []
    for number in ids.values():
        experiment = await get_experiment(connection, number)
        assert experiment is not None
        rows.append(asdict(experiment) | {"tags": list(experiment.tags.items())})
    pq.write_table(pa.Table.from_pylist(rows, SCHEMAS[EXPERIMENTS]), path, compression="zstd", write_page_checksum=True)
    return facts_of(path, len(rows))


async def _write_lines(connection: Connection, path: Path, ids: Sequence[str]) -> FileFacts:
    count = 0
    with pq.ParquetWriter(path, SCHEMAS[LINES], compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            rows = [
                asdict(line) for line in await exporting.branch_records(connection, ids[start : start + _RUNS_AT_ONCE])
            ]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMAS[LINES]))
            count += len(rows)
    return facts_of(path, count)


async def _write_points(connection: Connection, path: Path, ids: Sequence[str], progress: Progress) -> FileFacts:
    total = await exporting.point_count(connection, ids)
    with PointsFile(path) as file:
        done = 0
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            async for piece in exporting.point_pieces(connection, ids[start : start + _RUNS_AT_ONCE]):
                file.add(piece)
                done += len(piece.frame.values)
                progress(done, total)
    return facts_of(path, file.rows)
