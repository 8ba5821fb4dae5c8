"""Files of a logged model, by its id and a path below its root, as MLflow's pages request them."""

from typing import Annotated, Any

from starlette.responses import Response

from runfold_server.core.errors import BadBody
from runfold_server.http.messages import AnyText, Rule
from runfold_server.http.operation import Call, Operation, RawCall, RawOperation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow.logged_models.logged_models import LoggedModelRequest, find_logged_model
from runfold_server.openapi_schemas.common import TEXT, having, listed, ref

from . import files
from .paths import check_safe, parse_path, store_path
from .proxy import ANY, entries
from .serving import FILE_STATUSES


class ListModelFiles(LoggedModelRequest, frozen=True):
    """logged-models/{model_id}/artifacts/directories."""

    artifact_directory_path: AnyText = ""
    page_token: str = ""


class GetModelFile(LoggedModelRequest, frozen=True):
    """logged-models/{model_id}/artifacts/files."""

    artifact_file_path: Annotated[
        str,
        Rule(
            storable=False,
            missing='Request must include the "artifact_file_path" query parameter.',
            missing_error=BadBody,
        ),
    ]


async def _list(services: Services, call: Call[ListModelFiles]) -> dict[str, Any]:
    path = check_safe(call.request.artifact_directory_path.rstrip("/"))
    model_id = call.request.model_id
    root = (await find_logged_model(services, model_id, as_of=call.as_of)).artifact_uri
    found = await files.list_folder(services, parse_path(store_path(root, path, _folder(model_id))), call.as_of)
    return entries(found, path) | {"root_uri": root}


async def _get(services: Services, call: RawCall[GetModelFile]) -> Response:
    model_id, path = call.request.model_id, check_safe(call.request.artifact_file_path)
    as_of = await services.reads.moments.of_request(call.http)
    root = (await find_logged_model(services, model_id, as_of=as_of)).artifact_uri
    return await files.send(services, call.http, parse_path(store_path(root, path, _folder(model_id))), as_of)


def _folder(model_id: str) -> str:
    return f"models/{model_id}/artifacts"


LIST = Operation(
    "GET",
    "logged-models/{model_id}/artifacts/directories",
    ListModelFiles,
    _list,
    about="Files and folders directly below a path of a logged model's artifacts.",
    answer=having({"root_uri": TEXT}, {"files": listed(ref("FileInfo"))}),
    errors=(501,),
    time_travel=TimeTravel.AS_OF,
)
OPERATIONS = (
    RawOperation(
        "GET",
        "/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files",
        GetModelFile,
        _get,
        "A file of a logged model.",
        dict.fromkeys(FILE_STATUSES, (ANY, TEXT)),
        errors=(400, 404, 501, 503),
        time_travel=TimeTravel.AS_OF,
    ),
)
