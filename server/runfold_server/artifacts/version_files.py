"""A file of a model version by the model's name and the version's number, as MLflow's pages ask for it."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.registry.version_queries import ModelVersion
from runfold_schemas.events.artifact_paths import root_below
from runfold_schemas.events.runs import DEFAULT_WORKSPACE
from runfold_server.core.errors import InvalidParameter, NotImplementedYet
from runfold_server.http.operation import RawOperation
from runfold_server.http.request_fields import Field
from runfold_server.http.services import Services
from runfold_server.mlflow.registry.source_rules import lies_within
from runfold_server.mlflow.registry.version_search import version_of
from runfold_server.mlflow.tracking.artifact_roots import logged_model_origin, run_origin
from runfold_server.openapi_schemas.common import TEXT

from . import files
from .paths import find_place, safe
from .proxy import ANY
from .serving import ANSWERED


async def _get(services: Services, request: Request) -> Response:
    name, number, path = (request.query_params.get(key) or "" for key in ("name", "version", "path"))
    if not path:
        raise InvalidParameter("Request must specify path.")
    safe(path)
    root = await _root(services, await version_of(services, name, number))
    return await files.send(services, request, find_place(f"{urlsplit(root).path.strip('/')}/{path}"))


async def _root(services: Services, version: ModelVersion) -> str:
    """Where the version's files lie: in its run's or its logged model's folder of this server's store."""
    root = version.storage_location or version.source
    origins = [
        await run_origin(services, version.run_id) if version.run_id else None,
        await logged_model_origin(services, DEFAULT_WORKSPACE, version.model_id) if version.model_id else None,
    ]
    if root.startswith("runs:/") and origins[0] is not None:
        _, _, below = root.removeprefix("runs:/").partition("/")
        root = root_below(origins[0].artifact_uri, below)
    parsed = urlsplit(root)
    own = any(origin is not None and lies_within(root, origin.artifact_uri) for origin in origins)
    if parsed.scheme != "mlflow-artifacts" or parsed.netloc or not own:
        raise NotImplementedYet(
            f"The files of this version are kept at {root}, outside of its run's and its model's folders in this server's store; "
            "clients read them there themselves."
        )
    return root


OPERATIONS = (
    RawOperation(
        "GET",
        "/model-versions/get-artifact",
        _get,
        "A file of a model version.",
        dict.fromkeys(ANSWERED, (ANY, TEXT)),
        (Field("name", required=True), Field("version", required=True), Field("path", required=True)),
        errors=(400, 404, 501, 503),
    ),
)
