"""A run's files by the run's id and a path below its root, as MLflow's pages and `list_artifacts` ask for them."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.runs.as_of import run_at
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import InvalidParameter, TooLarge
from runfold_server.http.dispatch import read_body
from runfold_server.http.operation import Call, Operation, RawOperation
from runfold_server.http.request_fields import Field
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import JSON, TEXT, having, listed, ref
from runfold_server.reads.reader import of_run
from runfold_server.writes.writes import Origin

from . import files
from .paths import find_file, find_place, proxied, safe
from .proxy import ANY, BYTES, announced, entries
from .serving import ANSWERED

UPLOAD_BYTES = 10 * 1024 * 1024
_RUN_ID = Field("run_id", required=True, alias="run_uuid")


async def _list(services: Services, call: Call) -> dict[str, Any]:
    path = safe(call.args["path"].rstrip("/"))
    run_id = call.args["run_id"]
    root = await _root(services, run_id, call.as_of)
    found = await files.listing(services, find_place(proxied(root, path, _folder(run_id))), call.as_of)
    return entries(found, path) | {"root_uri": root}


async def _get(services: Services, request: Request) -> Response:
    query = request.query_params
    run_id, path = query.get("run_id") or query.get("run_uuid"), query.get("path")
    if not run_id or not path:
        raise InvalidParameter("Request must specify run_id and path.")
    safe(path)
    as_of = await services.reads.moments.of(request)
    root = await _root(services, run_id, as_of)
    return await files.send(services, request, find_place(proxied(root, path, _folder(run_id))), as_of)


def _folder(run_id: str) -> str:
    return f"{run_id}/artifacts"


async def _root(services: Services, run_id: str, as_of: Vector | None) -> str:
    """Where the run's artifacts lie; NotFound if there is no such run, or was none then."""
    if as_of is not None:
        shown = await services.reads.reader.asked(
            as_of, of_run(run_id, Topic.RUNS), lambda connection: run_at(connection, run_id, as_of)
        )
        if shown.value is None:
            raise no_run(run_id, as_of)
        return shown.value.head.artifact_uri
    return (await services.caches.runs.present(run_id)).artifact_uri


async def _upload(services: Services, request: Request) -> Response:
    query = request.query_params
    run_id, path = query.get("run_uuid"), query.get("path")
    if not run_id:
        raise InvalidParameter("Request must specify run_uuid.")
    if not path:
        raise InvalidParameter("Request must specify path.")
    safe(path)
    try:
        body = await read_body(request, UPLOAD_BYTES)
    except TooLarge:
        raise InvalidParameter("Artifact size is too large. Max size is 10MB.") from None
    if not body:
        raise InvalidParameter("Request must specify data.")
    root = (await services.caches.runs.present(run_id)).artifact_uri
    place = find_file(proxied(root, path, _folder(run_id)))
    await files.store(services, place, _once(body), announced(request), Origin.of(request.headers.get))
    return Response(None, 200, media_type=JSON)


async def _once(body: bytes) -> Any:
    yield body


LIST = Operation(
    "GET",
    "artifacts/list",
    _list,
    (_RUN_ID, Field("path", default=""), Field("page_token", default="")),
    about="Files and folders directly below a path of a run's artifacts.",
    answer=having({"root_uri": TEXT}, {"files": listed(ref("FileInfo"))}),
    errors=(404, 501),
    past=True,
)
OPERATIONS = (
    RawOperation(
        "GET",
        "/get-artifact",
        _get,
        "A file of a run.",
        dict.fromkeys(ANSWERED, (ANY, TEXT)),
        (_RUN_ID, Field("path", required=True)),
        errors=(400, 404, 501, 503),
        past=True,
    ),
    RawOperation(
        "POST",
        "/ajax-api/2.0/mlflow/upload-artifact",
        _upload,
        "Store a file of a run, of 10 MB at most.",
        {200: (JSON, TEXT)},
        (Field("run_uuid", required=True), Field("path", required=True)),
        BYTES,
        errors=(400, 404, 501, 503),
    ),
)
