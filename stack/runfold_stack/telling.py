"""`runfold timeline`, `why` and `diff`: what happened to a run, an experiment or a model, through the API of a running server."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from .asking import API, AsJson, Server, ask, print_json


class Kind(StrEnum):
    """What is asked about."""

    RUN = "run"
    EXPERIMENT = "experiment"
    MODEL = "model"
    LOGGED_MODEL = "logged-model"


What = Annotated[Kind, typer.Argument(help="run, experiment, model (a registered one) or logged-model.")]
Name = Annotated[str, typer.Argument(help="Its id; of a registered model, its name.")]
AsOf = Annotated[
    str,
    typer.Option("--as-of", help="A moment of the past: a date or time, ms since the epoch, or a position vector."),
]


def timeline(
    what: What,
    name: Name,
    kind: Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")] = None,
    outcome: Annotated[str, typer.Option("--outcome", help="Only accepted, or rejected, ones.")] = "",
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many events.")] = 100,
    as_of: AsOf = "",
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Everything that happened to it, the refused tries too: when, who, what, from what to what."""
    query = {
        "limit": limit,
        "order": "newest" if newest else "oldest",
        "type": kind,
        "outcome": outcome,
        "as_of": as_of,
    }
    answer = ask(server, f"{_path(what, name)}/events", query)
    if as_json:
        return print_json(answer)
    for event in answer["events"]:
        typer.echo(_line(event))
        for change in event["changes"]:
            typer.echo(f"    {_change(change)}")
    if "next_page_token" in answer:
        typer.echo(f"There is more: --limit, or --json and the API's page_token {answer['next_page_token']}", err=True)
    return None


def why(
    what: What,
    name: Name,
    field: Annotated[str, typer.Argument(help="Such as status, params.lr, tags.team, alias.prod, versions.3.stage.")],
    as_of: AsOf = "",
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Which event set a value, and the ones that did before."""
    answer = ask(server, f"{_path(what, name)}/why", {"field": field, "as_of": as_of})
    if as_json:
        return print_json(answer)
    typer.echo(f"{field} = {_shown(answer['value'])}")
    for one in [answer["set_by"], *answer["earlier"]]:
        typer.echo(f"  {_shown(one['from'])} -> {_shown(one['to'])}   {_line(one['event'])}")
    return None


def diff(
    what: What,
    name: Name,
    since: Annotated[str, typer.Option("--from", help="The earlier moment.")],
    until: Annotated[str, typer.Option("--to", help="The later moment; else now.")] = "",
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """What differs between two moments, by whom, by which event."""
    answer = ask(server, f"{_path(what, name)}/diff", {"from": since, "to": until})
    if as_json:
        return print_json(answer)
    for change in answer["changes"]:
        by = f"   {_line(change['event'])}" if change["event"] else ""
        typer.echo(f"{_change(change)}{by}")
    return None


def _path(what: Kind, name: str) -> str:
    return f"{API}/{what.value}s/{quote(name, safe='')}"


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["broker_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
    refused = f"  REFUSED {event['code']}: {event['message']}" if event["outcome"] == "rejected" else ""
    return f"{at}  {event['position']}  {event['type'].rpartition('.')[2]}  by {event['actor']}{refused}"


def _change(change: dict[str, Any]) -> str:
    return f"{change['field']}: {_shown(change['from'])} -> {_shown(change['to'])}"


def _shown(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
