"""A logged model's files by the model's id and a path below its root, as MLflow's pages ask for them."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold_server.core.errors import BadBody
from runfold_server.http.operation import Call, Operation, RawOperation
from runfold_server.http.request_fields import Field
from runfold_server.http.services import Services
from runfold_server.mlflow.logged_models.routes import MODEL_ID, find_logged_model
from runfold_server.openapi_schemas.common import TEXT, having, listed, ref

from . import files
from .paths import find_place, proxied, safe
from .proxy import ANY, entries
from .serving import ANSWERED


async def _list(services: Services, call: Call) -> dict[str, Any]:
    path = safe(call.args["artifact_directory_path"].rstrip("/"))
    model_id = call.args["model_id"]
    root = (await find_logged_model(services, model_id, as_of=call.as_of)).artifact_uri
    found = await files.listing(services, find_place(proxied(root, path, _folder(model_id))), call.as_of)
    return entries(found, path) | {"root_uri": root}


async def _get(services: Services, request: Request) -> Response:
    path = request.query_params.get("artifact_file_path")
    if not path:
        raise BadBody('Request must include the "artifact_file_path" query parameter.')
    safe(path)
    as_of = await services.reads.moments.of(request)
    model_id = str(request.path_params["model_id"])
    root = (await find_logged_model(services, model_id, as_of=as_of)).artifact_uri
    return await files.send(services, request, find_place(proxied(root, path, _folder(model_id))), as_of)


def _folder(model_id: str) -> str:
    return f"models/{model_id}/artifacts"


LIST = Operation(
    "GET",
    "logged-models/{model_id}/artifacts/directories",
    _list,
    (MODEL_ID, Field("artifact_directory_path", default=""), Field("page_token", default="")),
    about="Files and folders directly below a path of a logged model's artifacts.",
    answer=having({"root_uri": TEXT}, {"files": listed(ref("FileInfo"))}),
    errors=(501,),
    past=True,
)
OPERATIONS = (
    RawOperation(
        "GET",
        "/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files",
        _get,
        "A file of a logged model.",
        dict.fromkeys(ANSWERED, (ANY, TEXT)),
        (MODEL_ID, Field("artifact_file_path", required=True)),
        errors=(400, 404, 501, 503),
        past=True,
    ),
)
