"""Runs out of one namespace as Parquet, and into another: the same rows, once, whatever was killed in between."""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import tests.support.services.running as real
from runfold_projections.core.projection import Projection
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
)
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ModelOutput, OutputsLogged, ParamsLogged, RunCreated, RunUpdated, TagsSet
from runfold_schemas.positions.topics import Topic
from runfold_stack.config.services import Services
from runfold_stack.errors import BadExport, FoldsBehind, NothingChosen
from runfold_stack.transfer.exporting import Choice, export
from runfold_stack.transfer.importing import Report, import_export
from runfold_stack.transfer.layout import EXPERIMENTS, FILES, LINES, MANIFEST, MODELS, POINTS, RUNS, Manifest, facts_of
from tests.support.histories.generator import history
from tests.support.installations.in_process import append, outgoing, sender
from tests.support.installations.installation import Installation, new_installation
from tests.support.installations.sdk_fixtures import command

ALL = Choice()
Rows = dict[str, list[Any]]


SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
RICH = (7, 8)
"""Seeds whose logs have something of everything."""


@pytest.fixture
async def other(services: real.Services, installation: Installation, tmp_path: Path) -> AsyncIterator[Installation]:
    """Another namespace, with another number of partitions."""
    folder = tmp_path / "other"
    folder.mkdir()
    async with new_installation(services, f"{installation.namespace}_other", folder, partitions=3) as made:
        yield made


async def exported(installation: Installation, folder: Path, choice: Choice = ALL) -> Path:
    await export(_services(installation), installation.namespace, folder, choice)
    return folder


async def imported(installation: Installation, folder: Path) -> Report:
    return await import_export(_services(installation), installation.namespace, folder)


def _services(installation: Installation) -> Services:
    return Services(installation.services.kafka, installation.services.postgres)


def rows_of(folder: Path) -> Rows:
    """What an export must have in common with that of its import: all but what an installation gives out itself."""
    found: Rows = {}
    for name in FILES:
        rows = pq.read_table(folder / name).to_pylist()
        for row in rows:
            for own in ("experiment_id", "artifact_uri", "artifact_location", "artifacts"):
                row.pop(own, None)
            if name == EXPERIMENTS:
                del row["updated_ms"]
            if row.get("name") == "Default" and name == EXPERIMENTS:
                # Each installation has one from its birth: an import leaves it as it is there.
                del row["created_ms"], row["lifecycle_stage"]
        found[name] = sorted({repr(row) for row in rows})
    return found


def unequal(left: Rows, right: Rows) -> list[str]:
    return [
        f"{name} {side}: {row}"
        for name in FILES
        for side, rows in (
            ("only left", set(left[name]) - set(right[name])),
            ("only right", set(right[name]) - set(left[name])),
        )
        for row in sorted(rows)[:3]
    ]


def strange_log(seed: int) -> list[Outgoing]:
    """Events of every kind about a few experiments and runs: joins, conflicts, deletions, several attempts and ranks,
    odd numbers.
    """
    chance = random.Random(seed)
    return [
        Outgoing(projection.topic, raw.key or b"", raw.value or b"", raw.headers)
        for projection in (Projection.EXPERIMENTS, Projection.RUNS, Projection.METRICS, Projection.REGISTRY)
        for raw in history(projection, chance, 150)[1:]
        if raw.key is not None
    ]


async def filled(installation: Installation, records: list[Outgoing]) -> None:
    async with sender(installation) as raw:
        await append(installation, raw, records)
    await installation.settled()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40) if SOAK else (0, 26, *RICH))
async def test_an_export_of_the_import_of_an_export_has_the_same_rows(
    installation: Installation, other: Installation, tmp_path: Path, seed: int
) -> None:
    installation.worker(), other.worker()
    await filled(installation, strange_log(seed))
    first = await exported(installation, tmp_path / "first")
    report = await imported(other, first)
    assert report.conflicts == []
    second = await exported(other, tmp_path / "second")
    assert unequal(rows_of(first), rows_of(second)) == []
    rows = rows_of(first)
    if seed in RICH:
        assert min(len(rows[RUNS]) - 1, len(rows[POINTS]) - 50, len(rows[LINES]) - 3, len(rows[MODELS])) > 0
    assert report.models == len(rows[MODELS])
    assert report.imported == len(rows[RUNS])
    assert await _derived(other, first) == await _derived(installation, first)

    # Once more, and from a copy: nothing is there twice.
    before = await other.rows()
    shutil.copytree(first, tmp_path / "copy")
    again = await imported(other, tmp_path / "copy")
    assert (again.conflicts, again.imported) == ([], report.imported)
    after = await other.rows()
    for projection in Projection:
        assert _without_checkpoints(before[projection]) == _without_checkpoints(after[projection])


async def _derived(installation: Installation, folder: Path) -> list[Any]:
    """Attempts in the order that the log saw them in, and the summaries of effective points, of exported runs with
    points.
    """
    known = set(pq.read_table(folder / POINTS).to_pydict()["run_id"])
    rows = (await installation.rows())[Projection.METRICS]
    found = [(kind, row[:3]) for kind, row in rows if kind == "attempt"] + [one for one in rows if one[0] == "metric"]
    return sorted(repr(one) for one in found if one[1][0] in known)


def _without_checkpoints(rows: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [row for row in rows if row[0] != "checkpoint"]


async def test_an_import_that_is_killed_again_and_again_is_whole_in_the_end(
    installation: Installation, other: Installation, tmp_path: Path
) -> None:
    installation.worker(), other.worker()
    runs, steps = 12, 2000
    records = [outgoing_run(f"run{n}") for n in range(runs)]
    for n in range(runs):
        records += points_of_run(f"run{n}", steps)
    await filled(installation, records)
    first = await exported(installation, tmp_path / "first")
    chance = random.Random(1)
    killed = 0
    for _ in range(4):
        # Killed when it has come so far.
        stop_at = chance.random() * runs * steps * 4
        killed += await asyncio.to_thread(_import_until, stop_at, first, other)
    assert killed > 1
    report = await imported(other, first)
    assert (report.imported, report.points, report.conflicts) == (runs, runs * steps * 4, [])
    second = await exported(other, tmp_path / "second")
    assert unequal(rows_of(first), rows_of(second)) == []
    # Not even twice at rest.
    assert pq.ParquetFile(second / POINTS).metadata.num_rows == runs * steps * 4


IMPORT = """
import asyncio, sys
from pathlib import Path
from runfold_stack.transfer.importing import import_export
from runfold_log.cluster import KafkaCluster, KafkaSecurity
from runfold_stack.config.services import Services
kafka = KafkaCluster(sys.argv[2], KafkaSecurity.from_environment())
folder, postgres, namespace = sys.argv[1], *sys.argv[3:]
progress = lambda done, all: print(done, flush=True)
asyncio.run(import_export(Services(kafka, postgres), namespace, Path(folder), progress=progress))
"""


def _import_until(points: float, folder: Path, installation: Installation) -> bool:
    """Whether it was killed before its end."""
    command = [sys.executable, "-c", IMPORT, str(folder), *addresses(installation)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= points:
                break
        process.kill()
    return process.returncode < 0


def addresses(installation: Installation) -> tuple[str, str, str]:
    return installation.services.kafka.brokers, installation.services.postgres, installation.namespace


def variables(installation: Installation) -> dict[str, str]:
    services = installation.services
    names = {"RUNFOLD_POSTGRES": services.postgres, "RUNFOLD_NAMESPACE": installation.namespace}
    return {**services.kafka_variables, **names}


def outgoing_run(run_id: str, experiment: int = 0, **fields: Any) -> Outgoing:
    event = RunCreated(
        run_id=run_id, experiment_id=experiment, name=f"name of {run_id}", start_ms=5, artifact_uri="s3://b/1", **fields
    )
    return outgoing(Topic.RUNS, event)


def points_of_run(run_id: str, steps: int) -> list[Outgoing]:
    frame = Frame(("a", "b"), array("q", range(steps)), array("q", range(steps)), array("d", range(2 * steps)))
    return [
        outgoing(Topic.METRICS, MetricsLogged(run_id, (frame,)), writer=f"rank{rank}", rank=rank, attempt="t")
        for rank in range(2)
    ]


async def test_a_run_that_is_there_already_is_left_as_it_is_and_what_differs_is_said(
    installation: Installation, other: Installation, tmp_path: Path
) -> None:
    installation.worker(), other.worker()
    experiment = outgoing(Topic.EXPERIMENTS, ExperimentCreated(name="e"))
    made = [outgoing_run("same", 1), outgoing_run("else", 1), *points_of_run("same", 10), *points_of_run("else", 10)]
    await filled(
        installation,
        [experiment, *made, outgoing(Topic.RUNS, ParamsLogged(run_id="else", params={"lr": "1"}), sequence=1)],
    )
    first = await exported(installation, tmp_path / "first")
    changed = [
        outgoing(Topic.RUNS, ParamsLogged(run_id="else", params={"lr": "2"}), sequence=1),
        outgoing(Topic.RUNS, RunUpdated(run_id="else", status="FAILED", end_ms=7), sequence=2),
        outgoing(Topic.RUNS, TagsSet(run_id="else", tags={"t": "x"}), sequence=3),
    ]
    await filled(other, [experiment, *made, *changed])
    before = await other.rows()
    report = await imported(other, first)
    assert (report.imported, report.existed, report.points) == (0, 1, 0)
    assert sorted(report.conflicts) == [
        "run else is there already: end_ms is 7 there, None in the export",
        "run else is there already: param 'lr' is '2' there, '1' in the export",
        "run else is there already: status is 'FAILED' there, 'RUNNING' in the export",
        "run else is there already: tag 't' is 'x' there, None in the export",
    ]
    assert await other.rows() == before


async def test_what_is_chosen_and_nothing_else_is_exported(installation: Installation, tmp_path: Path) -> None:
    installation.worker()
    records = [outgoing(Topic.EXPERIMENTS, ExperimentCreated(name=f"e{n}"), writer=f"w{n}") for n in (1, 2)]
    for n in range(4):
        records += [outgoing_run(f"run{n}", 1 + n % 2), *points_of_run(f"run{n}", n + 1)]
    await filled(installation, records)

    async def found(name: str, choice: Choice) -> tuple[list[str], list[str], set[str]]:
        folder = await exported(installation, tmp_path / name, choice)
        experiments, runs, _, points = (pq.read_table(folder / file).to_pydict() for file in FILES[:4])
        return experiments["name"], runs["run_id"], set(points["run_id"])

    assert await found("a", Choice(("e1",))) == (["e1"], ["run0", "run2"], {"run0", "run2"})
    assert await found("b", Choice(filter="metrics.a >= 4")) == (["e1", "e2"], ["run2", "run3"], {"run2", "run3"})
    assert (await found("c", Choice(run_ids=("run3",))))[1] == ["run3"]
    assert (await found("d", Choice(("e1", "e2"), "attributes.run_name != 'name of run0'", ("run0", "run1"))))[1:] == (
        ["run1"], {"run1"},
    )  # fmt: skip
    for choice, text in (
        (Choice(("none",)), "no experiment 'none'"),
        (Choice(run_ids=("run1", "none")), "no run none"),
    ):
        with pytest.raises(NothingChosen, match=text):
            await exported(installation, tmp_path / "e", choice)
    assert not (tmp_path / "e").exists()
    with pytest.raises(BadExport, match="exists already"):
        await exported(installation, tmp_path / "a")


async def test_tables_that_stand_still_are_not_exported(installation: Installation, tmp_path: Path) -> None:
    async with sender(installation) as raw:
        await append(installation, raw, [outgoing_run("run")])
    with pytest.raises(FoldsBehind, match="Is a worker running"):
        await export(_services(installation), installation.namespace, tmp_path / "a", ALL, patience=0.3)
    assert [name for name in os.listdir(tmp_path) if "a" in name.split(".")] == []


async def test_a_folder_that_is_no_whole_export_is_refused_and_nothing_is_appended(
    installation: Installation, other: Installation, tmp_path: Path
) -> None:
    installation.worker()
    await filled(installation, [outgoing_run("run"), *points_of_run("run", 1000)])
    good = await exported(installation, tmp_path / "good")

    def spoilt(name: str, spoil: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(good, folder)
        spoil(folder)
        return folder

    def flip(folder: Path) -> None:
        data = bytearray((folder / POINTS).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / POINTS).write_bytes(data)

    def other_format(folder: Path) -> None:
        found = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(found | {"format": 3}))

    bad = {
        "is no folder": tmp_path / "nowhere",
        f"it has no {MANIFEST}": spoilt("a", lambda f: (f / MANIFEST).unlink()),
        "is missing": spoilt("b", lambda f: (f / RUNS).unlink()),
        "is not what was exported": spoilt("c", flip),
        "It was cut, damaged": spoilt("d", lambda f: (f / RUNS).write_bytes((f / RUNS).read_bytes()[:-9])),
        "format 3 is not known": spoilt("e", other_format),
        "can't be read": spoilt("f", lambda f: (f / MANIFEST).write_text("{}")),
        "can't be read: JSONDecodeError": spoilt("g", lambda f: (f / MANIFEST).write_text("hello")),
    }
    before = await other.ends()
    for text, folder in bad.items():
        with pytest.raises(BadExport, match=text):
            await imported(other, folder)
    assert await other.ends() == before


async def test_the_commands_say_what_they_did(installation: Installation, other: Installation, tmp_path: Path) -> None:
    installation.worker(), other.worker()
    await filled(installation, [outgoing_run("run"), *points_of_run("run", 100)])
    folder = tmp_path / "folder"

    def env(one: Installation) -> dict[str, str]:
        return variables(one)

    done = await asyncio.to_thread(command, "export", str(folder), env=env(installation))
    assert (done.returncode, done.stdout) == (0, f"1 runs and 400 points in {folder}\n"), done.stderr
    assert [path for path in (folder, *folder.iterdir()) if path.stat().st_mode & 0o077] == []
    done = await asyncio.to_thread(command, "import", "runfold", str(folder), env=env(other))
    assert (done.returncode, done.stdout) == (0, "1 runs and 400 points imported, 0 runs were there already\n"), (
        done.stderr
    )
    done = await asyncio.to_thread(command, "import", "runfold", str(folder), env=env(installation))
    assert (done.returncode, done.stdout) == (0, "0 runs and 0 points imported, 1 runs were there already\n"), (
        done.stderr
    )
    done = await asyncio.to_thread(command, "import", "runfold", str(tmp_path), env=env(other))
    assert (done.returncode, "is no export" in done.stderr) == (1, True)
    (tmp_path / "file").write_text("")
    done = await asyncio.to_thread(command, "export", str(tmp_path / "file" / "folder"), env=env(installation))
    assert (done.returncode, "Not a directory" in done.stderr, "Postgres" in done.stderr) == (1, True, False)


def model_events(model_id: str, experiment: int, start_ms: int, *events: Any, **fields: Any) -> list[Outgoing]:
    """A logged model's events, a second apart."""
    created = LoggedModelCreated(
        model_id=model_id, experiment_id=experiment, name=f"n-{model_id}", artifact_uri=f"s3://b/{model_id}", **fields
    )
    return [
        outgoing(Topic.REGISTRY, event, writer=model_id, sequence=number, time_ms=start_ms + 1000 * number)
        for number, event in enumerate((created, *events))
    ]


async def test_logged_models_and_outputs_come_along_once_with_ids_times_and_what_was_measured(
    installation: Installation, other: Installation, tmp_path: Path
) -> None:
    installation.worker(), other.worker()
    measured = Frame(
        ("acc",), array("q", [1, 2]), array("q", [10, 20]), array("d", [0.5, 0.7]), "m-of-run", "iris", "d1"
    )
    made = [
        outgoing(Topic.EXPERIMENTS, ExperimentCreated(name="e1"), writer="w1"),
        outgoing(Topic.EXPERIMENTS, ExperimentCreated(name="e2"), writer="w2"),
        outgoing_run("run", 1),
        outgoing(
            Topic.RUNS,
            OutputsLogged(run_id="run", models=[ModelOutput(model_id=m, step=s) for m, s in (("m-2", 7), ("m-1", 3))]),
            sequence=1,
        ),
        outgoing(Topic.METRICS, MetricsLogged("run", (measured,))),
        *model_events(
            "m-1", 1, 5_000,
            LoggedModelParamsLogged(model_id="m-1", params={"depth": "3"}),
            LoggedModelTagsSet(model_id="m-1", tags={"a": "1", "b": "2"}),
            LoggedModelTagsDeleted(model_id="m-1", keys=["b"]),
            LoggedModelFinalized(model_id="m-1", status="READY"),
            model_type="agent", source_run_id="run", params={"lr": "0.1"},
        ),
        *model_events(
            "m-2", 2, 6_000, LoggedModelFinalized(model_id="m-2", status="FAILED"), LoggedModelDeleted(model_id="m-2")
        ),
        *model_events("m-of-run", 2, 7_000),
        *model_events("m-alone", 2, 8_000),
    ]  # fmt: skip
    await filled(installation, made)
    folder = await exported(installation, tmp_path / "all")
    models = {row["model_id"]: row for row in pq.read_table(folder / MODELS).to_pylist()}
    assert sorted(models) == ["m-1", "m-2", "m-alone", "m-of-run"]
    assert models["m-1"] == {
        "model_id": "m-1",
        "experiment": "e1",
        "name": "n-m-1",
        "artifact_uri": "s3://b/m-1",
        "model_type": "agent",
        "source_run_id": "run",
        "status": "READY",
        "lifecycle_stage": "active",
        "created_ms": 5_000,
        "updated_ms": 9_000,
        "params": [("depth", "3"), ("lr", "0.1")],
        "tags": [("a", "1")],
    }
    (run,) = pq.read_table(folder / RUNS).to_pylist()
    assert run["outputs"] == [{"model_id": "m-2", "step": 7}, {"model_id": "m-1", "step": 3}]
    # With some runs only: what they made, took or measured, wherever it lies.
    part = await exported(installation, tmp_path / "part", Choice(run_ids=("run",)))
    assert pq.read_table(part / MODELS).to_pydict()["model_id"] == ["m-1", "m-2", "m-of-run"]
    assert pq.read_table(part / EXPERIMENTS).to_pydict()["name"] == ["e1", "e2"]

    report = await imported(other, folder)
    assert (report.models, report.imported, report.conflicts) == (4, 1, [])
    assert unequal(rows_of(folder), rows_of(await exported(other, tmp_path / "back"))) == []
    assert await _measured(other) == await _measured(installation) != []
    before = await other.rows()
    again = await imported(other, folder)
    assert (again.models, again.models_existed, again.conflicts) == (4, 0, [])
    after = await other.rows()
    for projection in Projection:
        assert _without_checkpoints(before[projection]) == _without_checkpoints(after[projection])

    # Where they were made they are left alone; what was changed since is said.
    same = await imported(installation, folder)
    assert (same.models, same.models_existed, same.conflicts) == (0, 4, [])
    change = LoggedModelTagsSet(model_id="m-1", tags={"a": "3"})
    await filled(installation, [outgoing(Topic.REGISTRY, change, writer="late")])
    same = await imported(installation, folder)
    assert same.conflicts == ["logged model m-1 is there already: tag 'a' is '3' there, '1' in the export"]
    assert same.models_existed == 3

    # An export of the format before this one, which knew of no models.
    old = _of_format_1(folder, tmp_path / "old")
    there = await imported(installation, old)
    assert (there.models, there.models_existed, there.existed, there.conflicts) == (0, 0, 1, [])
    env = variables(other)
    done = await asyncio.to_thread(command, "import", "runfold", str(folder), env=env)
    assert (done.returncode, done.stdout) == (
        0, "1 runs, 4 logged models and 2 points imported, 0 runs were there already\n",
    ), done.stderr  # fmt: skip
    done = await asyncio.to_thread(command, "export", str(tmp_path / "told"), env=env)
    assert done.stdout == f"1 runs, 4 logged models and 2 points in {tmp_path / 'told'}\n", done.stderr


async def _measured(installation: Installation) -> list[Any]:
    return sorted(repr(row) for kind, row in (await installation.rows())[Projection.METRICS] if kind == "model_metric")


def _of_format_1(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    (to / MODELS).unlink()
    runs = pq.read_table(to / RUNS).drop_columns(["outputs"])
    pq.write_table(runs, to / RUNS)
    found = json.loads((to / MANIFEST).read_text())
    del found["files"][MODELS]
    manifest = Manifest(**(found | {"format": 1, "files": {}}))
    manifest.files.update({name: facts_of(to / name, found["files"][name]["rows"]) for name in FILES[:4]})
    manifest.write(to)
    return to
