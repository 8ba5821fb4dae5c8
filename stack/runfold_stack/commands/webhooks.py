"""`runfold webhooks`: list them and their failed deliveries, and deliver again, through a running server's API."""

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from .api_client import API, MLFLOW, AsJson, Server, ask, print_json

PAGE = 1_000
webhooks_app = typer.Typer(help="Webhooks: receivers of the registry's changes.", no_args_is_help=True)

Named = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its name or id.")]


@webhooks_app.command(name="list")
def list_webhooks(server: Server = None, as_json: AsJson = False) -> None:
    """List webhooks: id, status, name, address and event types."""
    found: list[Any] = []
    token = ""
    while True:
        answer = ask(server, f"{MLFLOW}/webhooks", {"max_results": PAGE, "page_token": token})
        found += answer["webhooks"]
        token = answer.get("next_page_token", "")
        if not token:
            break
    if as_json:
        return print_json({"webhooks": found})
    for hook in found:
        kinds = ",".join(f"{event['entity']}.{event['action']}".lower() for event in hook["events"])
        typer.echo(f"{hook['webhook_id']}  {hook['status']}  {hook['name']}  {hook['url']}  {kinds}")
    return None


@webhooks_app.command()
def failed(
    webhook: Annotated[str, typer.Option("--webhook", help="Only those of this one, by name or id.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE, help="How many.")] = 100,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List the deliveries that were given up, the latest first: when, position of the event, what, to whom, tries, and
    why.
    """
    query = {"state": "failed", "webhook": webhook, "limit": limit}
    answer = ask(server, f"{API}/webhooks/deliveries", query)
    if as_json:
        return print_json(answer)
    for one in answer["deliveries"]:
        at = datetime.fromtimestamp(one["ended_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
        tries = f"{one['attempts']} {'try' if one['attempts'] == 1 else 'tries'}"
        typer.echo(
            f"{at}  {one['position']}  {one['kind']}  to {one['webhook_id']}  {one['delivery_id']}  {tries}: "
            f"{one['error']}"
        )
    if "next_offset" in answer:
        typer.echo(f"There is more: --limit, or the API's offset {answer['next_offset']}", err=True)
    return None


@webhooks_app.command()
def redeliver(
    webhook: Named,
    start: Annotated[str, typer.Option("--from", help="A position of the registry, such as registry:0:120.")],
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Redeliver to a webhook everything from a position on, under the same delivery ids: what arrived is sent again
    too.
    """
    answer = ask(server, f"{API}/webhooks/{quote(webhook, safe='')}/redeliver", {"from": start}, method="POST")
    if as_json:
        return print_json(answer)
    if answer["from"] == answer["until"]:
        typer.echo(f"{answer['webhook_id']}: no events from {start} on yet; later ones are delivered anyway")
    else:
        typer.echo(
            f"{answer['webhook_id']}: redelivers registry:0:{answer['from']} to registry:0:{answer['until'] - 1}"
        )
    return None
