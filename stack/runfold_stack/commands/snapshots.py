"""`runfold snapshot`: moments of the log kept as read models, for searches."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from runfold_stack.config.services import find_services, kafka_named, postgres_named
from runfold_stack.config.settings import load_settings
from runfold_stack.config.signals import until_signalled
from runfold_stack.errors import BadSetting

from .rebuild import AsJson, DataDir, Patience

T = TypeVar("T")
snapshot_app = typer.Typer(
    help="Snapshots: read models of earlier moments of the log, for searches as of then.",
    no_args_is_help=True,
)


@snapshot_app.command(name="create")
def create(
    name: Annotated[
        str | None, typer.Argument(help="Lower-case letters, digits and underscores; none: made of the moment.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            help="A time by the broker's clock: 2026-03-01, 2026-03-01T12:30:00+01:00 (UTC if no zone is named).",
        ),
    ] = None,
    vector: Annotated[
        str | None, typer.Option("--vector", help="A position vector: runs:3:18240,metrics:3:99.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until workers have folded it.")] = True,
    patience: Patience = 60.0,
    data_dir: DataDir = None,
) -> None:
    """Fold the log up to a moment into read models of its own, which stay until they are dropped."""
    # Imported on first use: the command starts faster.
    from . import snapshots_run

    if (at is None) == (vector is None):
        raise BadSetting("name the moment: --at 2026-03-01, or --vector runs:3:18240,…")
    wanted = snapshots_run.SnapshotRequest(name, at or vector or "", wait, patience)
    print(_run(data_dir, lambda kafka, dsn, namespace: snapshots_run.create(kafka, dsn, namespace, wanted)))


@snapshot_app.command(name="list")
def list_snapshots(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List snapshots with their vectors, sizes and progress."""
    from .snapshots_run import line, listed

    found = _run(data_dir, lambda _kafka, dsn, namespace: listed(dsn, namespace))
    if as_json:
        print(json.dumps([snapshot.as_json() for snapshot in found], indent=2))
        return
    for snapshot in found:
        print(line(snapshot))


@snapshot_app.command(name="drop")
def drop(name: Annotated[str, typer.Argument()], data_dir: DataDir = None) -> None:
    """Drop a snapshot with its read models. The log keeps its events."""
    from . import snapshots_run

    _run(data_dir, lambda _kafka, dsn, namespace: snapshots_run.drop(dsn, namespace, name))
    print(f"snapshot {name} was dropped")


def _run(data_dir: Path | None, work: Any) -> Any:
    settings = load_settings(data_dir=data_dir)
    services = find_services(settings)

    async def wrapped(coroutine: Coroutine[Any, Any, T]) -> tuple[T]:
        return (await coroutine,)

    with kafka_named(services.kafka), postgres_named(services.postgres):
        done = asyncio.run(until_signalled(wrapped(work(services.kafka, services.postgres, settings.namespace))))
    if done is None:
        raise typer.Exit(130)
    return done[0]
