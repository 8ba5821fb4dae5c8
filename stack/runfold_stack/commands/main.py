"""The `runfold` command. Data goes to standard output, talk to standard error; errors say what to do.

Commands import what they need when they run: a server need not wait until a worker's libraries are loaded.
"""

import asyncio
import json
import os
import shlex
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from runfold_schemas.positions.topics import Topic
from runfold_stack.config.release import RELEASE
from runfold_stack.config.settings import Settings, load_settings, misspelt_variables
from runfold_stack.config.signals import until_signalled
from runfold_stack.errors import BadSetting, StackError

from .history import diff, timeline, why
from .promote import promote
from .rebuild import generations_app, rebuild, rollback, state_hash
from .snapshots import snapshot_app
from .transfer import export, import_app
from .webhooks import webhooks_app

if TYPE_CHECKING:
    from runfold_stack.supervision.supervisor import PartState

    from .tail import Start

app = typer.Typer(
    help="Runfold: an event-sourced experiment tracker. Settings come from RUNFOLD_* variables or the file "
    "RUNFOLD_CONFIG names.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
topics_app = typer.Typer(help="The topics of the log.", no_args_is_help=True)
events_app = typer.Typer(help="The events in the log.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(events_app, name="events")
app.command()(export)
app.command()(promote)
app.add_typer(import_app, name="import")
app.command()(rebuild)
app.command()(rollback)
app.command(name="state-hash")(state_hash)
app.add_typer(generations_app, name="generations")
app.add_typer(snapshot_app, name="snapshot")
app.add_typer(webhooks_app, name="webhooks")
app.command()(timeline)
app.command()(why)
app.command()(diff)

talk = Console(stderr=True, highlight=False, soft_wrap=True)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the embedded services keep their data.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", help="Port of the server; 0: a free one.")]


def _settings(**given: Any) -> Settings:
    for name, meant in misspelt_variables():
        talk.print(f"[yellow]warning:[/] {name} is no setting and has no effect; did you mean {meant}?")
    return load_settings(**given)


@app.command()
def up(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Start everything (Kafka, Postgres, a worker, the server) and keep it running until Ctrl-C."""
    settings = _settings(data_dir=data_dir, host=host, port=port)
    asyncio.run(until_signalled(_up(settings)))


async def _up(settings: Settings) -> None:
    # Imported on first use: the command starts faster.
    from runfold_stack.embedded.kafka_login import login_variables
    from runfold_stack.programs.up import runfold_up

    default = Settings.model_fields["data_dir"].default
    here = "" if settings.data_dir == default else f" --data-dir {settings.data_dir}"
    talk.print(f"Runfold {RELEASE} starts on the data directory {escape(str(settings.data_dir))}")
    async with runfold_up(settings, _print_progress) as running:
        talk.print(f"\n[bold green]Runfold is up[/] at [bold]{running.url}[/]\n")
        talk.print(f"  MLflow code    export MLFLOW_TRACKING_URI={running.url}")
        talk.print(f"  Runfold code   export RUNFOLD_TRACKING_URI={running.url}")
        talk.print(f"  look inside    runfold status{escape(here)}")
        talk.print(f"                 runfold events tail --follow{escape(here)}")
        if settings.kafka is None:
            talk.print(f"  past the API   source {escape(shlex.quote(str(login_variables(settings.data_dir))))}")
            talk.print(
                f"                 export RUNFOLD_TRACKING_URI='kafka://{running.kafka}/{settings.namespace}?api={running.url}'"
            )
        talk.print("  stop           Ctrl-C")
        try:
            await asyncio.Event().wait()
        finally:
            talk.print("\nstopping")


def _print_progress(part: str, state: "PartState", detail: str) -> None:
    if state == "stopping" or (state == "preparing" and not detail):
        return
    style = {"ready": "green", "restarting": "yellow", "stopped": "dim"}.get(state, "cyan")
    talk.print(f"  [{style}]{part:<9}[/] {state}{f': {escape(detail)}' if detail else ''}")


@app.command()
def server(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run the API server alone."""
    from runfold_stack.config.logs import configure_logs
    from runfold_stack.config.services import find_services
    from runfold_stack.programs.server import run_server

    settings = _settings(host=host, port=port, data_dir=data_dir)
    configure_logs(settings.log_level)
    run_server(settings, find_services(settings))


@app.command()
def worker(data_dir: DataDir = None) -> None:
    """Run a worker alone; any number may run."""
    import uvloop

    from runfold_stack.config.logs import configure_logs
    from runfold_stack.config.services import find_services
    from runfold_stack.programs.worker import run_worker

    settings = _settings(data_dir=data_dir)
    configure_logs(settings.log_level)
    uvloop.run(run_worker(settings, find_services(settings)))


@app.command(hidden=True)
def replay() -> None:
    """What a worker starts beside itself while there is something to replay; it ends with its standard input."""
    import uvloop

    from runfold_stack.config.logs import configure_logs
    from runfold_stack.config.services import find_services
    from runfold_stack.programs.worker import run_replayer

    settings = load_settings()
    configure_logs(settings.log_level)
    uvloop.run(run_replayer(settings, find_services(settings)))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the control schema in Postgres to this release."""
    from runfold_projections.control.migrations import migrate
    from runfold_stack.config.services import find_services, postgres_named

    settings = _settings(data_dir=data_dir)
    dsn = find_services(settings).postgres
    with postgres_named(dsn):
        done = asyncio.run(migrate(dsn, settings.namespace))
    for what in done:
        print(what)
    talk.print(f"namespace {settings.namespace}: {'done' if done else 'nothing to do'}")


@app.command()
def upgrade(data_dir: DataDir = None) -> None:
    """Raise the feature level to this release's, when every server and worker runs it; topics that the log lacks are
    made.
    """
    from runfold_log.admin import upgrade_log
    from runfold_stack.config.services import find_services, kafka_named
    from runfold_stack.programs.up import log_settings

    settings = _settings(data_dir=data_dir)
    kafka = find_services(settings).kafka
    with kafka_named(kafka):
        before, after = asyncio.run(
            upgrade_log(kafka, settings.namespace, release=RELEASE, settings=log_settings(settings))
        )
    print(f"feature level {before} -> {after}" if before != after else f"feature level {after}: nothing to do")


@topics_app.command(name="create")
def topics_create(data_dir: DataDir = None) -> None:
    """Make the topics, their genesis records and schema declarations where they are missing."""
    from runfold_log.admin import create_log
    from runfold_stack.config.services import find_services, kafka_named
    from runfold_stack.programs.up import log_settings

    settings = _settings(data_dir=data_dir)
    kafka = find_services(settings).kafka
    with kafka_named(kafka):
        info = asyncio.run(create_log(kafka, settings.namespace, log_settings(settings), release=RELEASE))
    print(f"log {info.log_id}: feature level {info.level}, {info.partitions} partitions of runs and of metrics")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, data_dir: DataDir = None
) -> None:
    """Show parts, versions, positions and lag. Exit code 1 if a part is not ready or a file is damaged."""
    from runfold_stack.config.services import find_services

    from .status import is_well, render
    from .status import status as read_status

    settings = _settings(data_dir=data_dir)
    found = asyncio.run(read_status(find_services(settings), settings.namespace))
    print(json.dumps(found, indent=2) if as_json else render(found))
    if not is_well(found):
        raise typer.Exit(1)


@app.command()
def sync(
    directory: Annotated[
        Path | None,
        typer.Argument(help="A spool, or a directory above; unset: RUNFOLD_SPOOL_DIR, or where it is unset too."),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Send all to this server, whatever their runs named.")] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="Create runs in this one, not in the one that they named.")
    ] = None,
    patience: Annotated[
        float, typer.Option("--patience", min=0.1, help="Seconds without progress after which it gives up.")
    ] = 30.0,
) -> None:
    """Send what training runs left on this machine's disk. Exit code 1 if something could not be sent."""
    from .sync import sync_with_progress

    if not sync_with_progress(directory, to, experiment, patience, talk):
        raise typer.Exit(1)


@events_app.command(name="tail")
def events_tail(
    topic: Annotated[list[Topic] | None, typer.Option("--topic", help="Only this topic; may be repeated.")] = None,
    start: Annotated[
        str, typer.Option("--from", help="beginning, end, or a position such as runs:3:120 (then only its partition).")
    ] = "beginning",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes; --from end always does.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Print events as JSON lines, in order per partition."""
    from .tail import Start

    settings = _settings(data_dir=data_dir)
    try:
        where = Start.parse(start)
    except ValueError as error:
        raise BadSetting(f"--from: {error}; or beginning, or end") from None
    asyncio.run(until_signalled(_print_events(settings, topic or list(Topic), where, follow, limit)))


async def _print_events(
    settings: Settings, topics: list[Topic], start: "Start", follow: bool, limit: int | None
) -> None:
    from runfold_log.admin import open_log
    from runfold_stack.config.services import find_services, kafka_named

    from .tail import tail

    kafka = find_services(settings).kafka
    with kafka_named(kafka):
        info = await open_log(kafka, settings.namespace)
        count = 0
        lines = tail(kafka, info, topics, start=start.position, from_end=start.at_end, follow=follow or start.at_end)
        async with aclosing(lines):
            async for line in lines:
                print(line, flush=follow or start.at_end)
                count += 1
                if limit is not None and count >= limit:
                    return


@app.command()
def version() -> None:
    """Print the release."""
    print(RELEASE)


def main() -> None:
    """Entry point: errors of ours become one message each and exit code 1."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has enough. What Python still holds for it must not be tried again at exit; the code is what
        # Typer gives.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        messages = [_message_of(leaf) for leaf in _leaves(error)]
        if None in messages:
            raise
        for message in dict.fromkeys(messages):
            talk.print(f"[red]error:[/] {escape(str(message))}")
        sys.exit(1)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _message_of(error: BaseException) -> str | None:
    """Return the message for a user's error; None for a fault of this program, whose traceback is wanted."""
    from runfold.errors import RunfoldError
    from runfold_projections.core.errors import ProjectionError
    from runfold_schemas.errors import SchemaError
    from runfold_stack.config.extras import missing_extra
    from runfold_stack.config.services import of_a_file

    if isinstance(error, ModuleNotFoundError):
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        missing = missing_extra(command, error)
        return str(missing) if missing is not None else None
    if isinstance(error, StackError | RunfoldError | ProjectionError | SchemaError):
        return str(error)
    if isinstance(error, OSError) and of_a_file(error):
        return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
    return None
