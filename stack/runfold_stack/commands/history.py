"""`runfold timeline`, `why` and `diff`: what happened to a run, an experiment or a model, through the API of a running
server.
"""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from runfold_stack.errors import BadSetting

from .api_client import API, MLFLOW, AsJson, Server, ask, print_json

MOST_EVENTS = 1_000
_TIMES = ("start_time", "end_time")
"""Fields that are ms since the epoch."""


class Kind(StrEnum):
    """What is asked about."""

    RUN = "run"
    EXPERIMENT = "experiment"
    MODEL = "model"
    LOGGED_MODEL = "logged-model"
    WEBHOOK = "webhook"


class Outcome(StrEnum):
    """What the fold said of an event."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


What = Annotated[Kind, typer.Argument(help="run, experiment, model (a registered one), logged-model or webhook.")]
Name = Annotated[str, typer.Argument(help="Its id; of an experiment or a registered model, its name.")]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="A moment of the past: a date or time, ms since the epoch, or a position vector."),
]


def timeline(
    what: What,
    name: Name,
    kind: Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")] = None,
    outcome: Annotated[Outcome | None, typer.Option("--outcome", help="Only accepted, or rejected, ones.")] = None,
    field: Annotated[
        str,
        typer.Option("--field", help="Only what changed it, or was refused it: alias.prod, versions.3, params.lr, …"),
    ] = "",
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_EVENTS, help="How many events.")] = 100,
    page_token: Annotated[str, typer.Option("--page-token", help="Go on where an answer before ended.")] = "",
    as_of: AsOf = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Everything that happened to it, the refused tries too: when, who, what, from what to what."""
    moment = _moment("--as-of", as_of)
    query = {
        "limit": limit,
        "order": "newest" if newest else "oldest",
        "type": kind,
        "outcome": outcome,
        "field": field,
        "page_token": page_token,
        "as_of": moment,
    }
    answer = ask(server, f"{_path(server, what, name, moment)}/events", query)
    if as_json:
        return print_json(answer)
    for event in answer["events"]:
        typer.echo(_line(event))
        for change in event["changes"]:
            typer.echo(f"    {_change(change)}")
        for one in event["caused"]:
            typer.echo(f"    caused {one['position']} of {one['entity']}")
    for points in answer.get("logged", ()):
        typer.echo(_logged(points))
    if not answer["events"]:
        typer.echo("No event is like that.", err=True)
    if "next_page_token" in answer:
        typer.echo(f"There is more: --limit, or --page-token {answer['next_page_token']}", err=True)
    _others(answer)
    return None


def why(
    what: What,
    name: Name,
    field: Annotated[str, typer.Argument(help="Such as status, params.lr, tags.team, alias.prod, versions.3.stage.")],
    as_of: AsOf = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Which event set a value, and the ones that did before."""
    moment = _moment("--as-of", as_of)
    answer = ask(server, f"{_path(server, what, name, moment)}/why", {"field": field, "as_of": moment})
    if as_json:
        return print_json(answer)
    typer.echo(f"{field} = {_shown(field, answer['value'])}")
    for one in [answer["set_by"], *answer["earlier"]]:
        typer.echo(f"  {_shown(field, one['from'])} -> {_shown(field, one['to'])}   {_line(one['event'])}")
    _others(answer)
    return None


def diff(
    what: What,
    name: Name,
    since: Annotated[str, typer.Option("--from", help="The earlier moment.")],
    until: Annotated[str | None, typer.Option("--to", help="The later moment; else now.")] = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """What differs between two moments, by whom, by which event."""
    last = _moment("--to", until)
    answer = ask(server, f"{_path(server, what, name, last)}/diff", {"from": since, "to": last})
    if as_json:
        return print_json(answer)
    for change in answer["changes"]:
        by = f"   {_line(change['event'])}" if change["event"] else ""
        typer.echo(f"{_change(change)}{by}")
    if not answer["changes"]:
        typer.echo("Nothing differs.", err=True)
    return None


def _moment(option: str, text: str | None) -> str | None:
    # An empty variable in somebody's script does not mean today.
    if text is not None and not text.strip():
        raise BadSetting(f"{option} names no moment")
    return text


def _others(answer: dict[str, Any]) -> None:
    for other in answer.get("namesakes", ()):
        typer.echo(f"Another model had this name before, {other['id']}: --as-of {other['as_of']}", err=True)


def _path(server: str | None, what: Kind, name: str, moment: str | None) -> str:
    """The API's path of it; an experiment's name is the one that it had at the moment."""
    if not name:
        raise BadSetting(f"name the {what.value}: its id, or the name of an experiment or registered model")
    if what is Kind.EXPERIMENT and not (name.isascii() and name.isdecimal()):
        named = ask(server, f"{MLFLOW}/experiments/get-by-name", {"experiment_name": name, "as_of": moment})
        name = str(named["experiment"]["experiment_id"])
    return f"{API}/{what.value}s/{quote(name, safe='')}"


def _line(event: dict[str, Any]) -> str:
    refused = f"  REFUSED {event['code']}: {event['message']}" if event["outcome"] == "rejected" else ""
    kind = event["type"].rpartition(".")[2]
    return f"{_time(event['broker_ms'])}  {event['position']}  {kind}  by {event['actor']}{refused}"


def _logged(points: dict[str, Any]) -> str:
    """What was logged to `metrics` by one attempt and rank, to one branch."""
    names = [f"{name} {points[name]}" for name in ("attempt", "rank") if points[name] not in ("", None)]
    names += [f"branch {points['branch']}"] if points["branch"] else []
    by = f" by {', '.join(names)}" if names else ""
    count = "1 point" if points["points"] == 1 else f"{points['points']} points"
    where = f"{points['first_position']} to {points['last_position']}"
    return f"logged {count} of metrics{by}, steps {points['first_step']} to {points['last_step']}  {where}"


def _change(change: dict[str, Any]) -> str:
    field = change["field"]
    return f"{field}: {_shown(field, change['from'])} -> {_shown(field, change['to'])}"


def _shown(field: str, value: Any) -> str:
    if value is None:
        return "-"
    return _time(value) if field in _TIMES else json.dumps(value, ensure_ascii=False)


def _time(ms: int) -> str:
    """As `--as-of` takes it, too; the number where no calendar has it."""
    try:
        at = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    except (OverflowError, OSError, ValueError):
        return str(ms)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
