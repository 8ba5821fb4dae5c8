"""Health, version and metrics of the server."""

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

READY_TIMEOUT_SECONDS = 3.0
"""Kafka and Postgres must answer within this time."""


async def alive(_: Services, __: RawCall[NoFields]) -> Response:
    """Answer that the process is alive, without a check of Kafka or Postgres."""
    return PlainTextResponse("OK")


async def version(_: Services, __: RawCall[NoFields]) -> Response:
    """Answer MLflow's release, with the media type that MLflow gives it."""
    return Response(MLFLOW_VERSION, media_type="text/html")


async def ready(services: Services, _: RawCall[NoFields]) -> Response:
    """Answer 200 when Kafka and Postgres answer, else 503; both with the state of each."""
    kafka, postgres = await asyncio.gather(
        _part(services.reads.log_ends.now()), _part(services.reads.database.checkpoints())
    )
    parts = {"kafka": kafka, "postgres": postgres}
    ok = all(part["ok"] for part in parts.values())
    return json_response({"ready": ok, "parts": parts}, 200 if ok else 503)


async def _part(question: Awaitable[object]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            await question
    except Unavailable as error:
        return {"ok": False, "error": error.message}
    except TimeoutError:
        return {"ok": False, "error": f"no answer within {READY_TIMEOUT_SECONDS:g} s"}
    return {"ok": True}


async def metrics(services: Services, _: RawCall[NoFields]) -> Response:
    """Answer the metrics in Prometheus's text format."""
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


_BOOLEAN: Schema = {"type": "boolean"}
SERVER_INFO = Operation(
    "GET",
    "server-info",
    NoFields,
    _server_info,
    about="Features of this server; MLflow's client asks before large transfers.",
    time_travel=TimeTravel.AS_OF,
    answer=having(
        {
            "store_type": TEXT,
            "workspaces_enabled": _BOOLEAN,
            "trace_archival_enabled": _BOOLEAN,
            "multipart_uploads_enabled": _BOOLEAN,
            "multipart_downloads_enabled": _BOOLEAN,
            "presigned_upload_run_id_supported": _BOOLEAN,
            "presigned_upload_model_id_supported": _BOOLEAN,
            "features_enabled": having({"gateway": _BOOLEAN}),
        }
    ),
)
_READY = having({"ready": _BOOLEAN, "parts": having({"kafka": ref("Part"), "postgres": ref("Part")})})


def _plain(
    path: str, handler: RawHandler[NoFields], about: str, answers: Mapping[int, tuple[str, Schema]]
) -> RawOperation[NoFields]:
    return RawOperation("GET", path, NoFields, handler, about, answers, errors=(), guarded=False)


OPERATIONS = (
    _plain("/health", alive, "The process is alive.", {200: ("text/plain", TEXT)}),
    _plain("/health/live", alive, "The process is alive.", {200: ("text/plain", TEXT)}),
    _plain("/health/ready", ready, "Whether Kafka and Postgres answer.", {200: (JSON, _READY), 503: (JSON, _READY)}),
    _plain("/version", version, "The release of MLflow whose REST API is served.", {200: ("text/html", TEXT)}),
    _plain("/metrics", metrics, "Metrics of the server, for Prometheus.", {200: ("text/plain", TEXT)}),
)
