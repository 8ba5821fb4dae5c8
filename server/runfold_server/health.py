"""Is the server alive, is it ready, which release does it speak, what does it count."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .api import Api, Call, Operation
from .dispatch import json_response
from .errors import Unavailable
from .observe import CONTENT_TYPE

MLFLOW_VERSION = "3.17.2"
"""The release of MLflow whose REST is spoken; the client takes its newest path for it."""
READY_TIMEOUT = 3.0

Endpoint = Callable[[Request], Awaitable[Response]]


async def alive(_: Request) -> Response:
    """The process answers; nothing is said of the parts it stands on."""
    return PlainTextResponse("OK")


async def version(_: Request) -> Response:
    """MLflow's release, as plain text in the type that MLflow gives it."""
    return Response(MLFLOW_VERSION, media_type="text/html")


def ready(api: Callable[[], Api]) -> Endpoint:
    """200 when Kafka and Postgres answer, else 503; both with the parts' states."""

    async def endpoint(_: Request) -> Response:
        now = api()
        kafka, postgres = await asyncio.gather(_part(now.ends.now()), _part(now.database.checkpoints()))
        parts = {"kafka": kafka, "postgres": postgres}
        ok = all(part["ok"] for part in parts.values())
        return json_response({"ready": ok, "parts": parts}, 200 if ok else 503)

    return endpoint


async def _part(question: Awaitable[object]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            await question
    except Unavailable as error:
        return {"ok": False, "error": error.message}
    except TimeoutError:
        return {"ok": False, "error": f"no answer within {READY_TIMEOUT:g} s"}
    return {"ok": True}


def metrics(api: Callable[[], Api]) -> Endpoint:
    """Prometheus's exposition format."""

    async def endpoint(_: Request) -> Response:
        return Response(api().observed.text(), headers={"content-type": CONTENT_TYPE})

    return endpoint


async def _server_info(_: Api, __: Call) -> dict[str, Any]:
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }


SERVER_INFO = Operation("GET", "server-info", _server_info)
