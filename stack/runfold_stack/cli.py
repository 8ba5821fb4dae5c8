"""The `runfold` command. Data goes to standard output, talk to standard error; errors say what to do."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runfold.birth import create_log, open_log, upgrade_log
from runfold.errors import RunfoldError
from runfold_projections.errors import ProjectionError
from runfold_projections.migrate import migrate
from runfold_schemas.errors import SchemaError
from runfold_schemas.position import Position
from runfold_schemas.topics import Topic

from .errors import BadSetting, StackError
from .logs import configure_logs
from .programs import run_server, run_worker, until_signalled
from .release import RELEASE
from .services import find_services
from .settings import Settings, load_settings
from .status import status as read_status
from .supervisor import PartState
from .tail import tail
from .up import birth_of, runfold_up

app = typer.Typer(
    help="Runfold: an event-sourced experiment tracker. Settings come from RUNFOLD_* variables or the file RUNFOLD_CONFIG names.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
topics_app = typer.Typer(help="The topics of the log.", no_args_is_help=True)
events_app = typer.Typer(help="The events in the log.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(events_app, name="events")

talk = Console(stderr=True, highlight=False)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the embedded services keep their data.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", help="Port of the server; 0: a free one.")]


@app.command()
def up(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Start everything (Kafka, Postgres, a worker, the server) and keep it running until Ctrl-C."""
    settings = load_settings(data_dir=data_dir, host=host, port=port)
    asyncio.run(until_signalled(_up(settings)))


async def _up(settings: Settings) -> None:
    async with runfold_up(settings, _tell) as running:
        talk.print(f"\n[bold green]Runfold {RELEASE} is up[/] at [bold]{running.url}[/]")
        talk.print(f"  tracking      export MLFLOW_TRACKING_URI={running.url} RUNFOLD_TRACKING_URI={running.url}")
        talk.print(f"  data          {settings.data_dir.absolute()}")
        talk.print("  look inside   runfold status; runfold events tail --follow")
        talk.print("  stop          Ctrl-C")
        try:
            await asyncio.Event().wait()
        finally:
            talk.print("stopping…")


def _tell(part: str, state: PartState, detail: str) -> None:
    style = {"ready": "green", "restarting": "yellow", "stopped": "dim", "stopping": "dim"}.get(state, "cyan")
    talk.print(f"  [{style}]{part:<9}[/] {state}{f': {detail}' if detail else ''}")


@app.command()
def server(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run the API server alone."""
    settings = load_settings(host=host, port=port, data_dir=data_dir)
    configure_logs(settings.log_level)
    run_server(settings, find_services(settings))


@app.command()
def worker(data_dir: DataDir = None) -> None:
    """Run a worker alone; any number may run."""
    settings = load_settings(data_dir=data_dir)
    configure_logs(settings.log_level)
    asyncio.run(run_worker(settings, find_services(settings)))


@app.command(name="migrate")
def migrate_command(data_dir: DataDir = None) -> None:
    """Bring the control schema in Postgres to this release."""
    settings = load_settings(data_dir=data_dir)
    done = asyncio.run(migrate(find_services(settings).postgres, settings.namespace))
    for what in done:
        print(what)
    talk.print(f"namespace {settings.namespace}: {'done' if done else 'nothing to do'}")


@app.command()
def upgrade(data_dir: DataDir = None) -> None:
    """Raise the feature level to this release's, when every server and worker runs it."""
    settings = load_settings(data_dir=data_dir)
    before, after = asyncio.run(upgrade_log(find_services(settings).kafka, settings.namespace, release=RELEASE))
    print(f"feature level {before} -> {after}")


@topics_app.command(name="create")
def topics_create(data_dir: DataDir = None) -> None:
    """Make the topics, their genesis records and schema declarations where they are missing."""
    settings = load_settings(data_dir=data_dir)
    kafka = find_services(settings).kafka
    info = asyncio.run(create_log(kafka, settings.namespace, birth_of(settings), release=RELEASE))
    print(f"log {info.log_id}: feature level {info.level}, {info.partitions} partitions of runs and of metrics")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, data_dir: DataDir = None
) -> None:
    """Show parts, versions, positions and lag. Exit code 1 if a part is not ready."""
    settings = load_settings(data_dir=data_dir)
    found = asyncio.run(read_status(find_services(settings), settings.namespace))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_status(found)
    if any(part["state"] in ("away", "not ready") for part in found["parts"].values()):
        raise typer.Exit(1)


def _print_status(found: dict[str, Any]) -> None:
    out = Console(highlight=False)
    out.print(f"Runfold {found['release']}, namespace {found['namespace']}")
    parts = Table(box=None, pad_edge=False)
    for title in ("part", "state", "address", "facts"):
        parts.add_column(title)
    for name, part in found["parts"].items():
        hidden = ("state", "address", "detail", "generations", "workers")
        facts = ", ".join(f"{key} {value}" for key, value in part.items() if key not in hidden)
        parts.add_row(name, part["state"], part.get("address", ""), facts)
    out.print(parts)
    for w in found["parts"]["postgres"].get("workers", []):
        out.print(
            f"worker {w['worker_id']} on {w['host']} (pid {w['pid']}, release {w['release']}): {w['partitions']} partitions"
        )
    positions = Table(box=None, pad_edge=False)
    for title in ("partition", "log end", "checkpoint", "lag"):
        positions.add_column(title, justify="left" if title == "partition" else "right")
    for row in found["partitions"]:
        positions.add_row(
            *("?" if row[key] is None else str(row[key]) for key in ("partition", "end", "checkpoint", "lag"))
        )
    out.print(positions)


@events_app.command(name="tail")
def events_tail(
    topic: Annotated[list[Topic] | None, typer.Option("--topic", help="Only this topic; may be repeated.")] = None,
    start: Annotated[
        str, typer.Option("--from", help="beginning, end, or a position such as runs:3:120 (then only its partition).")
    ] = "beginning",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Print events as JSON lines, in order per partition."""
    settings = load_settings(data_dir=data_dir)
    position = None
    if start not in ("beginning", "end"):
        try:
            position = Position.parse(start)
        except ValueError as error:
            raise BadSetting(f"--from: {error}; or beginning, or end") from None
    topics = [position.topic] if position else topic or list(Topic)
    kafka = find_services(settings).kafka
    _until_interrupted(_print_events(kafka, settings.namespace, topics, position, start == "end", follow, limit))


async def _print_events(
    kafka: str,
    namespace: str,
    topics: list[Topic],
    position: Position | None,
    from_end: bool,
    follow: bool,
    limit: int | None,
) -> None:
    info = await open_log(kafka, namespace)
    count = 0
    async for line in tail(kafka, info, topics, start=position, from_end=from_end, follow=follow or from_end):
        print(line, flush=follow)
        count += 1
        if limit is not None and count >= limit:
            return


def _until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        pass


@app.command()
def version() -> None:
    """Print the release."""
    print(RELEASE)


OURS = (StackError, RunfoldError, ProjectionError, SchemaError, KafkaError)


def main() -> None:
    """Entry point: errors of ours become one message and exit code 1."""
    try:
        app()
    except OURS as error:
        _say(error)
    except ExceptionGroup as group:
        if group.split(OURS)[1] is not None:
            raise
        _say(*_leaves(group))
    except BrokenPipeError:
        sys.exit(0)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [leaf for e in group.exceptions for leaf in (_leaves(e) if isinstance(e, BaseExceptionGroup) else [e])]


def _say(*errors: BaseException) -> None:
    for error in errors:
        talk.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
    sys.exit(1)
