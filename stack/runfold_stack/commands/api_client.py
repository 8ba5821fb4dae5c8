"""What commands share that ask a running server: its address, a request, what is printed."""

import asyncio
import json
import os
from typing import Annotated, Any

import typer

from runfold_stack.errors import StackError

API = "api/runfold/v1"
MLFLOW = "api/2.0/mlflow"
DEFAULT_URL = "http://127.0.0.1:5000"
Server = Annotated[
    str | None,
    typer.Option("--server", help="URL of the server; else RUNFOLD_TRACKING_URI or MLFLOW_TRACKING_URI, if it is one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer.")]


def ask(server: str | None, path: str, query: dict[str, Any], method: str = "GET") -> Any:
    """The JSON that a server answers; empty parameters are not sent.

    StackError: no answer, or what it says against the request.
    """
    return asyncio.run(_request(method, _url(server), path, {name: value for name, value in query.items() if value}))


def print_json(answer: Any) -> None:
    """To standard output, on one line."""
    typer.echo(json.dumps(answer, ensure_ascii=False))


async def _request(method: str, url: str, path: str, query: dict[str, Any]) -> Any:
    # Imported on first use: the command starts faster.
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
            answer = await client.request(method, f"{url}/{path}", params=query)
            body = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise StackError(
            f"no server of Runfold answers at {url} ({type(error).__name__}): name it by --server"
        ) from error
    if answer.status_code != 200:
        raise StackError(str(body.get("message", body)))
    return body


def _url(server: str | None) -> str:
    named = [server, os.environ.get("RUNFOLD_TRACKING_URI"), os.environ.get("MLFLOW_TRACKING_URI")]
    return next((url.rstrip("/") for url in named if url and url.startswith("http")), DEFAULT_URL)
