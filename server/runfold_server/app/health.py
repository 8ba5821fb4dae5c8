"""Is the server alive, is it ready, which release does it speak, what does it count."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from starlette.responses import PlainTextResponse, Response

from runfold_server.core.errors import Unavailable
from runfold_server.core.metrics import CONTENT_TYPE
from runfold_server.http.messages import NoFields
from runfold_server.http.operation import Call, Operation, RawCall, RawHandler, RawOperation, TimeTravel
from runfold_server.http.responses import json_response
from runfold_server.http.services import Services
from runfold_server.mlflow.version import MLFLOW_VERSION
from runfold_server.openapi_schemas.common import JSON, TEXT, Schema, having, ref

READY_TIMEOUT = 3.0


async def alive(_: Services, __: RawCall[NoFields]) -> Response:
    """The process answers; nothing is said of the parts it stands on."""
    return PlainTextResponse("OK")


async def version(_: Services, __: RawCall[NoFields]) -> Response:
    """MLflow's release, as plain text in the type that MLflow gives it."""
    return Response(MLFLOW_VERSION, media_type="text/html")


async def ready(services: Services, _: RawCall[NoFields]) -> Response:
    """200 when Kafka and Postgres answer, else 503; both with the parts' states."""
    kafka, postgres = await asyncio.gather(
        _part(services.reads.log_ends.now()), _part(services.reads.database.checkpoints())
    )
    parts = {"kafka": kafka, "postgres": postgres}
    ok = all(part["ok"] for part in parts.values())
    return json_response({"ready": ok, "parts": parts}, 200 if ok else 503)


async def _part(question: Awaitable[object]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            await question
    except Unavailable as error:
        return {"ok": False, "error": error.message}
    except TimeoutError:
        return {"ok": False, "error": f"no answer within {READY_TIMEOUT:g} s"}
    return {"ok": True}


async def metrics(services: Services, _: RawCall[NoFields]) -> Response:
    """Prometheus's exposition format."""
    return Response(services.metrics.text(), headers={"content-type": CONTENT_TYPE})


async def _server_info(_: Services, __: Call[NoFields]) -> dict[str, Any]:
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


_YES_OR_NO: Schema = {"type": "boolean"}
SERVER_INFO = Operation(
    "GET",
    "server-info",
    NoFields,
    _server_info,
    about="What this server can do; MLflow's client asks before large transfers.",
    time_travel=TimeTravel.AS_OF,
    answer=having(
        {
            "store_type": TEXT,
            "workspaces_enabled": _YES_OR_NO,
            "trace_archival_enabled": _YES_OR_NO,
            "multipart_uploads_enabled": _YES_OR_NO,
            "multipart_downloads_enabled": _YES_OR_NO,
            "presigned_upload_run_id_supported": _YES_OR_NO,
            "presigned_upload_model_id_supported": _YES_OR_NO,
            "features_enabled": having({"gateway": _YES_OR_NO}),
        }
    ),
)
_READY = having({"ready": _YES_OR_NO, "parts": having({"kafka": ref("Part"), "postgres": ref("Part")})})


def _plain(
    path: str, handler: RawHandler[NoFields], about: str, answers: Mapping[int, tuple[str, Schema]]
) -> RawOperation[NoFields]:
    return RawOperation("GET", path, NoFields, handler, about, answers, errors=(), guarded=False)


OPERATIONS = (
    _plain("/health", alive, "The process answers.", {200: ("text/plain", TEXT)}),
    _plain("/health/live", alive, "The process answers.", {200: ("text/plain", TEXT)}),
    _plain("/health/ready", ready, "Whether Kafka and Postgres answer.", {200: (JSON, _READY), 503: (JSON, _READY)}),
    _plain("/version", version, "The release of MLflow whose REST is spoken.", {200: ("text/html", TEXT)}),
    _plain("/metrics", metrics, "What the server counts, for Prometheus.", {200: ("text/plain", TEXT)}),
)
