"""Files of a model version, by the model's name and the version's number, as MLflow's pages request them."""

from typing import Annotated
from urllib.parse import urlsplit

from starlette.responses import Response

from runfold_projections.registry.version_queries import ModelVersion
from runfold_schemas.events.artifact_paths import append_path
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_server.core.errors import NotImplementedYet
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.services import Services
from runfold_server.mlflow.registry.source_rules import lies_within
from runfold_server.mlflow.registry.version_search import version_of
from runfold_server.mlflow.tracking.artifact_roots import logged_model_artifact_root, run_artifact_root
from runfold_server.openapi_schemas.common import TEXT

from . import files
from .paths import check_safe, parse_path
from .proxy import ANY
from .serving import FILE_STATUSES


class GetVersionFile(Message, frozen=True):
    """model-versions/get-artifact."""

    name: str
    version: str
    path: Annotated[str, Rule(storable=False, missing="Request must specify path.")]


async def _get(services: Services, call: RawCall[GetVersionFile]) -> Response:
    request, path = call.request, check_safe(call.request.path)
    root = await _root(services, await version_of(services, request.name, request.version))
    return await files.send(services, call.http, parse_path(f"{urlsplit(root).path.strip('/')}/{path}"))


async def _root(services: Services, version: ModelVersion) -> str:
    """Return the root of the version's files, in the folder of its run or logged model in this server's store."""
    root = version.storage_location or version.source
    origins = [
        await run_artifact_root(services, version.run_id) if version.run_id else None,
        await logged_model_artifact_root(services, DEFAULT_WORKSPACE, version.model_id) if version.model_id else None,
    ]
    if root.startswith("runs:/") and origins[0] is not None:
        _, _, below = root.removeprefix("runs:/").partition("/")
        root = append_path(origins[0].artifact_uri, below)
    parsed = urlsplit(root)
    own = any(origin is not None and lies_within(root, origin.artifact_uri) for origin in origins)
    if parsed.scheme != "mlflow-artifacts" or parsed.netloc or not own:
        raise NotImplementedYet(
            f"The files of this version are at {root}, outside of the folders of its run and model in this server's "
            "store; clients read them there themselves."
        )
    return root


OPERATIONS = (
    RawOperation(
        "GET",
        "/model-versions/get-artifact",
        GetVersionFile,
        _get,
        "A file of a model version.",
        dict.fromkeys(FILE_STATUSES, (ANY, TEXT)),
        errors=(400, 404, 501, 503),
    ),
)
