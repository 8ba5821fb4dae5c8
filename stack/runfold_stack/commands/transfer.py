"""The commands `runfold export` and `runfold import runfold`. Parquet's library is loaded when one of them runs."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runfold_stack.config.services import find_services, kafka_named, postgres_named
from runfold_stack.config.settings import load_settings
from runfold_stack.config.signals import until_signalled

talk = Console(stderr=True, highlight=False, soft_wrap=True)
import_app = typer.Typer(help="Bring in runs from elsewhere.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the embedded services keep their data.")]
Patience = Annotated[
    float, typer.Option("--patience", min=0.1, help="Seconds without progress of the folds after which it gives up.")
]


def export(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    experiment: Annotated[
        list[str] | None,
        typer.Option("--experiment", help="Only runs of the experiment of this name; may be repeated."),
    ] = None,
    filter_: Annotated[
        str,
        typer.Option("--filter", help="Only runs that match, in the language of MLflow's search: metrics.acc > 0.9"),
    ] = "",
    run: Annotated[list[str] | None, typer.Option("--run", help="Only the run of this id; may be repeated.")] = None,
    patience: Patience = 60.0,
    data_dir: DataDir = None,
) -> None:
    """Write runs, all their points and their logged models into a folder of Parquet files, deleted ones too."""
    # Imported on first use: the command starts faster.
    from runfold_stack.transfer.exporting import Choice
    from runfold_stack.transfer.exporting import export as make

    settings = load_settings(data_dir=data_dir)
    services = find_services(settings)
    choice = Choice(None if experiment is None else tuple(experiment), filter_, None if run is None else tuple(run))
    with kafka_named(services.kafka), postgres_named(services.postgres), _progress() as progress:
        work = make(services, settings.namespace, folder, choice, patience=patience, progress=progress)
        manifest = asyncio.run(until_signalled(work))
    if manifest is None:
        raise typer.Exit(130)
    runs, points = manifest.files["runs.parquet"].rows, manifest.files["points.parquet"].rows
    models = manifest.files["models.parquet"].rows
    print(f"{runs} runs{f', {models} logged models' if models else ''} and {points} points in {folder}")


@import_app.command(name="runfold")
def import_runfold(
    folder: Annotated[Path, typer.Argument(help="A folder that `runfold export` made.")],
    patience: Patience = 60.0,
    data_dir: DataDir = None,
) -> None:
    """Bring in an export, ids and times kept.

    Repeating it adds nothing twice. Exit code 1 if something there contradicts it.
    """
    from runfold_stack.transfer.importing import import_export

    settings = load_settings(data_dir=data_dir)
    services = find_services(settings)
    with kafka_named(services.kafka), postgres_named(services.postgres), _progress() as progress:
        work = import_export(services, settings.namespace, folder, patience=patience, progress=progress)
        report = asyncio.run(until_signalled(work))
    if report is None:
        raise typer.Exit(130)
    for conflict in report.conflicts:
        talk.print(f"[red]conflict:[/] {escape(conflict)}")
    if report.artifacts:
        talk.print(f"{report.artifacts} files of these runs are not in the export: their bytes stay where they are")
    models = f", {report.models} logged models" if report.models else ""
    there = f" and {report.models_existed} logged models" if report.models_existed else ""
    print(
        f"{report.imported} runs{models} and {report.points} points imported, {report.existed} runs{there} were "
        "there already"
    )
    if report.conflicts:
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as shown:
        task = shown.add_task("points", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
