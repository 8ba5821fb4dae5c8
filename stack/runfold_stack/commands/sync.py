"""`runfold sync`: the spools of training runs sent, with progress, and a word on each that could not be."""

import logging
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runfold.pipeline.spool_sync import SyncReport, sync
from runfold.settings import Settings


def sync_with_progress(
    directory: Path | None, to: str | None, experiment: str | None, patience: float, talk: Console
) -> bool:
    """Send every spool at or below a directory; whether nothing is left.

    Results go to standard output, talk to `talk`.
    """
    settings = Settings.load(to)
    where = directory or settings.spool_dir
    if directory is None and not where.is_dir():
        print("nothing to send")
        return True
    logging.getLogger("runfold").addHandler(logging.NullHandler())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as shown:
        task = shown.add_task("points and facts", total=None)
        report = sync(
            where,
            settings.uri,
            use_recorded=to is None,
            experiment=experiment,
            patience=patience,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )
    _print_report(report, talk)
    return not report.left


def _print_report(report: SyncReport, talk: Console) -> None:
    for directory, why in report.left.items():
        talk.print(f"[red]not sent:[/] {escape(str(directory))}: {escape(why)}")
    for rejected in report.rejected:
        talk.print(f"[red]rejected:[/] {escape(rejected)}")
    for unreadable in report.unreadable:
        talk.print(f"[yellow]left alone:[/] {escape(unreadable)}")
    for busy in report.busy:
        talk.print(f"[dim]its process lives and sends it itself:[/] {escape(str(busy))}")
    for run_id in report.live:
        talk.print(
            f"[dim]sent as far as it has come; it goes on, and keeps its spool until it ends:[/] run {escape(run_id)}"
        )
    print(f"{len(report.sent) + len(report.live)} spools sent: {report.points} points, {report.facts} facts")
