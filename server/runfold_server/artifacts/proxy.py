"""MLflow's artifact proxy, `/mlflow-artifacts/…`: paths of the whole store, whatever owner they have."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.artifacts.queries import FolderEntry
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.messages import AnyText, Message
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.responses import json_answer, json_response, with_moment
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import JSON, NOTHING, TEXT, having, listed, ref

from . import files
from .paths import parse_file_path, parse_path
from .serving import FILE_STATUSES

PREFIXES = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
BYTES = "application/octet-stream"
ANY = "*/*"
LISTED = having({}, {"files": listed(ref("FileInfo"))})


def entries(found: Sequence[FolderEntry], below: str = "") -> dict[str, Any]:
    """Return a listing as MLflow's JSON; `below` is the folder that names are relative to."""
    shown = []
    for entry in found:
        path = f"{below}/{entry.name}" if below else entry.name
        size = {} if entry.size is None else {"file_size": entry.size}
        shown.append({"path": path, "is_dir": entry.is_dir, **size})
    return {"files": shown} if shown else {}


class ListFolder(Message, frozen=True):
    """artifacts, by GET."""

    path: AnyText = ""


class StorePath(Message, frozen=True):
    """A request about one path of the artifact store."""

    path: AnyText


async def _list(services: Services, call: RawCall[ListFolder]) -> Response:
    target = parse_path(call.request.path.rstrip("/"))
    as_of = await services.reads.moments.of_request(call.http)
    return with_moment(await json_answer(entries(await files.list_folder(services, target, as_of))), as_of)


async def _get(services: Services, call: RawCall[StorePath]) -> Response:
    target = parse_path(call.request.path)
    return await files.send(services, call.http, target, await services.reads.moments.of_request(call.http))


async def _put(services: Services, call: RawCall[StorePath]) -> Response:
    target = parse_file_path(call.request.path)
    await files.store(services, target, call.http.stream(), announced(call.http), call.origin)
    return json_response({})


async def _delete(services: Services, call: RawCall[StorePath]) -> Response:
    target = parse_path(call.request.path.removesuffix("/"))
    if not target.shown:
        raise InvalidParameter("Invalid path")
    await files.delete(services, target, call.origin)
    return json_response({})


def announced(request: Request) -> int | None:
    """Return the announced length of the body in bytes; None without one."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() else None


def _operations(prefix: str) -> list[RawOperation[Any]]:
    files_at = f"{prefix}/artifacts/{{path:path}}"
    return [
        RawOperation(
            "GET",
            f"{prefix}/artifacts",
            ListFolder,
            _list,
            "Files and folders directly below a path of the artifact store.",
            {200: (JSON, LISTED)},
            errors=(400, 503),
            time_travel=TimeTravel.AS_OF,
        ),
        RawOperation(
            "GET",
            files_at,
            StorePath,
            _get,
            "A file, or the range of it that `Range` names.",
            dict.fromkeys(FILE_STATUSES, (ANY, TEXT)),
            errors=(400, 404, 501, 503),
            time_travel=TimeTravel.AS_OF,
        ),
        RawOperation(
            "PUT",
            files_at,
            StorePath,
            _put,
            "Store a file. It replaces one of the same path when the answer comes, not before.",
            {200: (JSON, NOTHING)},
            BYTES,
            errors=(400, 413, 501, 503),
        ),
        RawOperation(
            "DELETE",
            files_at,
            StorePath,
            _delete,
            "Delete a file, or all files below a folder.",
            {200: (JSON, NOTHING)},
            errors=(400, 501, 503),
        ),
    ]


OPERATIONS = tuple(operation for prefix in PREFIXES for operation in _operations(prefix))
