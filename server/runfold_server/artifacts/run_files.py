"""Files of a run, by its id and a path below its root, as MLflow's pages and `list_artifacts` request them."""

from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.runs.as_of import run_at
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import InvalidParameter, TooLarge
from runfold_server.http.messages import AnyText, Message, Rule
from runfold_server.http.operation import Call, Operation, RawCall, RawOperation, TimeTravel
from runfold_server.http.request_body import read_body
from runfold_server.http.services import Services
from runfold_server.mlflow.messages import RunRequest
from runfold_server.openapi_schemas.common import JSON, TEXT, having, listed, ref
from runfold_server.reads.scopes import of_run

from . import files
from .paths import check_safe, parse_file_path, parse_path, store_path
from .proxy import ANY, BYTES, announced, entries
from .serving import FILE_STATUSES

UPLOAD_BYTES = 10 * 1024 * 1024
"""MLflow's limit of an upload through this route."""


class ListRunFiles(RunRequest, frozen=True):
    """artifacts/list."""

    path: AnyText = ""
    page_token: str = ""


_NEEDS_RUN_AND_PATH = "Request must specify run_id and path."


class GetRunFile(Message, frozen=True):
    """get-artifact."""

    run_id: Annotated[str, Rule(alias="run_uuid", missing=_NEEDS_RUN_AND_PATH)]
    path: Annotated[str, Rule(storable=False, missing=_NEEDS_RUN_AND_PATH)]


class UploadRunFile(Message, frozen=True):
    """upload-artifact."""

    run_uuid: Annotated[str, Rule(missing="Request must specify run_uuid.")]
    path: Annotated[str, Rule(storable=False, missing="Request must specify path.")]


async def _list(services: Services, call: Call[ListRunFiles]) -> dict[str, Any]:
    path = check_safe(call.request.path.rstrip("/"))
    run_id = call.request.run_id
    root = await _root(services, run_id, call.as_of)
    found = await files.list_folder(services, parse_path(store_path(root, path, _folder(run_id))), call.as_of)
    return entries(found, path) | {"root_uri": root}


async def _get(services: Services, call: RawCall[GetRunFile]) -> Response:
    run_id, path = call.request.run_id, check_safe(call.request.path)
    as_of = await services.reads.moments.of_request(call.http)
    root = await _root(services, run_id, as_of)
    return await files.send(services, call.http, parse_path(store_path(root, path, _folder(run_id))), as_of)


def _folder(run_id: str) -> str:
    return f"{run_id}/artifacts"


async def _root(services: Services, run_id: str, as_of: Vector | None) -> str:
    """Return the root of the run's artifacts. NotFound if the run does not exist, or did not at `as_of`."""
    if as_of is not None:
        shown = await services.reads.reader.read(
            of_run(run_id, Topic.RUNS), lambda connection: run_at(connection, run_id, as_of), as_of=as_of
        )
        if shown.value is None:
            raise no_run(run_id, as_of)
        return shown.value.head.artifact_uri
    return (await services.caches.runs.present(run_id)).artifact_uri


async def _upload(services: Services, call: RawCall[UploadRunFile]) -> Response:
    run_id, path = call.request.run_uuid, check_safe(call.request.path)
    try:
        body = await read_body(call.http, UPLOAD_BYTES)
    except TooLarge:
        raise InvalidParameter("Artifact size is too large. Max size is 10MB.") from None
    if not body:
        raise InvalidParameter("Request must specify data.")
    root = (await services.caches.runs.present(run_id)).artifact_uri
    target = parse_file_path(store_path(root, path, _folder(run_id)))
    await files.store(services, target, _once(body), announced(call.http), call.origin)
    return Response(None, 200, media_type=JSON)


async def _once(body: bytes) -> Any:
    yield body


LIST = Operation(
    "GET",
    "artifacts/list",
    ListRunFiles,
    _list,
    about="Files and folders directly below a path of a run's artifacts.",
    answer=having({"root_uri": TEXT}, {"files": listed(ref("FileInfo"))}),
    errors=(404, 501),
    time_travel=TimeTravel.AS_OF,
)
OPERATIONS = (
    RawOperation(
        "GET",
        "/get-artifact",
        GetRunFile,
        _get,
        "A file of a run.",
        dict.fromkeys(FILE_STATUSES, (ANY, TEXT)),
        errors=(400, 404, 501, 503),
        time_travel=TimeTravel.AS_OF,
    ),
    RawOperation(
        "POST",
        "/ajax-api/2.0/mlflow/upload-artifact",
        UploadRunFile,
        _upload,
        "Store a file of a run, of 10 MB at most.",
        {200: (JSON, TEXT)},
        BYTES,
        errors=(400, 404, 501, 503),
    ),
)
