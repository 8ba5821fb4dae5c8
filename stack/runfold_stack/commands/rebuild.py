"""`runfold rebuild`, `rollback`, `generations` and `state-hash`. What they need is loaded when one of them runs."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from runfold_stack.config.services import find_services, postgres_named
from runfold_stack.config.settings import load_settings
from runfold_stack.config.signals import until_signalled

T = TypeVar("T")
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the embedded services keep their data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Patience = Annotated[
    float, typer.Option("--patience", min=1.0, help="Seconds without any progress after which it gives up.")
]
Projections = Annotated[list[str] | None, typer.Argument(metavar="[PROJECTION]...", help="Which ones; none: all.")]
generations_app = typer.Typer(
    help="Generations of the projections: built copies of the read models.", invoke_without_command=True
)


def rebuild(
    projection: Projections = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build, report every row that differs, and drop it again.")
    ] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Switch although rows or outcomes differ.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print differences and results as JSON lines.")] = False,
    patience: Patience = 60.0,
    data_dir: DataDir = None,
) -> None:
    """Rebuild projections next to the live ones, compare every row, and switch. Exit code 1 if rows differ.

    It may be stopped or killed at any time: the same command goes on where it was, and the live ones never notice.
    """
    # Imported on first use: the command starts faster.
    from .rebuild_run import Wish, projections, rebuild

    dsn, namespace = _installation(data_dir)
    wish = Wish(projections(projection), dry_run, accept_changes, as_json, patience)
    if not _run(dsn, rebuild(dsn, namespace, wish)):
        raise typer.Exit(1)


def rollback(projection: Projections = None, patience: Patience = 60.0, data_dir: DataDir = None) -> None:
    """Go back to the generation that was live before, at once: it is kept up to date for that.

    What was live is kept in turn.

    Without a projection: all that have an earlier generation.
    """
    from .rebuild_run import projections, rollback

    dsn, namespace = _installation(data_dir)
    asked = projections(projection) if projection else None
    _run(dsn, rollback(dsn, namespace, asked, patience))


@generations_app.callback()
def list_generations(context: typer.Context, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the generations: projection, number, state, layout, size, and how far they are folded."""
    if context.invoked_subcommand is not None:
        return
    from .rebuild_run import entries, line

    dsn, namespace = _installation(data_dir)
    found = _run(dsn, entries(dsn, namespace))
    if as_json:
        print(json.dumps([entry.as_json() for entry in found], indent=2))
        return
    for entry in found:
        print(line(entry))


@generations_app.command(name="drop")
def drop_generation(
    projection: Annotated[str, typer.Argument()],
    number: Annotated[int, typer.Argument(min=1)],
    data_dir: DataDir = None,
) -> None:
    """Drop a generation that is neither live nor part of a snapshot: one that is being built, or a standby."""
    from .rebuild_run import drop, projections

    dsn, namespace = _installation(data_dir)
    (one,) = projections([projection])
    _run(dsn, drop(dsn, namespace, one, number))
    print(f"{projection}: generation {number} was dropped")


def state_hash(
    projection: Projections = None,
    generation: Annotated[
        int | None, typer.Option("--generation", min=1, help="Its number, of one projection; unset: the live one.")
    ] = None,
    snapshot: Annotated[str | None, typer.Option("--snapshot", help="The generations of this snapshot.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Print a hash of what is folded, and the position vector at which it was taken.

    Equal wherever the same log was folded so far.
    """
    from .rebuild_run import hashes, projections

    chosen = projections(projection)
    if generation is not None and len(chosen) != 1:
        raise typer.BadParameter("name the one projection whose generation it is", param_hint="--generation")
    dsn, namespace = _installation(data_dir)
    for found in _run(dsn, hashes(dsn, namespace, chosen, generation, snapshot)):
        print(json.dumps(found) if as_json else f"{found['hash']}  {found['projection']}  {found['vector']}")


def _installation(data_dir: Path | None) -> tuple[str, str]:
    settings = load_settings(data_dir=data_dir)
    return find_services(settings).postgres, settings.namespace


def _run(dsn: str, work: Coroutine[Any, Any, T]) -> T:
    with postgres_named(dsn):
        done = asyncio.run(until_signalled(_wrapped(work)))
    if done is None:
        raise typer.Exit(130)
    return done[0]


async def _wrapped(work: Coroutine[Any, Any, T]) -> tuple[T]:
    return (await work,)
