"""MLflow's artifact proxy, `/mlflow-artifacts/…`: paths of the whole store, whoever's files they are."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.artifacts.queries import Entry
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.dispatch import json_response, saying
from runfold_server.http.operation import RawOperation
from runfold_server.http.request_fields import Field
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import JSON, NOTHING, TEXT, having, listed, ref
from runfold_server.writes.writes import Origin

from . import files
from .paths import find_file, find_place
from .serving import ANSWERED

PREFIXES = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
BYTES = "application/octet-stream"
ANY = "*/*"
LISTED = having({}, {"files": listed(ref("FileInfo"))})


def entries(found: Sequence[Entry], below: str = "") -> dict[str, Any]:
    """A listing as MLflow answers it; names stand below a folder, if one is given."""
    shown = []
    for entry in found:
        path = f"{below}/{entry.name}" if below else entry.name
        size = {} if entry.size is None else {"file_size": entry.size}
        shown.append({"path": path, "is_dir": entry.is_dir, **size})
    return {"files": shown} if shown else {}


async def _list(services: Services, request: Request) -> Response:
    place = find_place(request.query_params.get("path", "").rstrip("/"))
    as_of = await services.reads.moments.of(request)
    return saying(json_response(entries(await files.listing(services, place, as_of))), as_of)


async def _get(services: Services, request: Request) -> Response:
    place = find_place(path_of(request))
    return await files.send(services, request, place, await services.reads.moments.of(request))


async def _put(services: Services, request: Request) -> Response:
    place = find_file(path_of(request))
    await files.store(services, place, request.stream(), announced(request), Origin.of(request.headers.get))
    return json_response({})


async def _delete(services: Services, request: Request) -> Response:
    place = find_place(path_of(request).removesuffix("/"))
    if not place.shown:
        raise InvalidParameter("Invalid path")
    await files.delete(services, place, Origin.of(request.headers.get))
    return json_response({})


def path_of(request: Request) -> str:
    """What the address holds in place of `{path}`, percent-decoded once."""
    return str(request.path_params["path"])


def announced(request: Request) -> int | None:
    """The body's length, if the request says it."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() else None


def _operations(prefix: str) -> list[RawOperation]:
    path = Field("path", required=True)
    files_at = f"{prefix}/artifacts/{{path:path}}"
    return [
        RawOperation(
            "GET",
            f"{prefix}/artifacts",
            _list,
            "Files and folders directly below a path of the artifact store.",
            {200: (JSON, LISTED)},
            (Field("path", default=""),),
            errors=(400, 503),
            past=True,
        ),
        RawOperation(
            "GET",
            files_at,
            _get,
            "A file, or the range of it that `Range` names.",
            dict.fromkeys(ANSWERED, (ANY, TEXT)),
            (path,),
            errors=(400, 404, 501, 503),
            past=True,
        ),
        RawOperation(
            "PUT",
            files_at,
            _put,
            "Store a file. It replaces one of the same path when the answer comes, not before.",
            {200: (JSON, NOTHING)},
            (path,),
            BYTES,
            errors=(400, 413, 501, 503),
        ),
        RawOperation(
            "DELETE",
            files_at,
            _delete,
            "Take a file away, or everything below a folder.",
            {200: (JSON, NOTHING)},
            (path,),
            errors=(400, 501, 503),
        ),
    ]


OPERATIONS = tuple(operation for prefix in PREFIXES for operation in _operations(prefix))
