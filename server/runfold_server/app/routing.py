"""The routes of an application, from the tables of operations."""

import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount

from runfold_server.artifacts import model_files, run_files
from runfold_server.http.dispatch import MlflowRoutes, raw_route
from runfold_server.http.prefixes import MLFLOW_3_PREFIXES, MLFLOW_PREFIXES
from runfold_server.http.responses import NOT_FOUND_PAGE
from runfold_server.http.services import Services
from runfold_server.mlflow.not_implemented import PLANNED_2, PLANNED_3

from .routes import OPENAPI, OPERATIONS, OPERATIONS_3, RAW

_FIRST = (*run_files.OPERATIONS, *model_files.OPERATIONS)
"""Raw operations with paths below a mount, which must be matched first."""


def routes(services: Callable[[], Services]) -> list[BaseRoute]:
    """Return the routes of one application; `services` returns them once it has started."""
    return [
        *(raw_route(services, operation) for operation in _FIRST),
        *(_mounted(prefix, MlflowRoutes(services, prefix, OPERATIONS, PLANNED_2)) for prefix in MLFLOW_PREFIXES),
        *(_mounted(prefix, MlflowRoutes(services, prefix, OPERATIONS_3, PLANNED_3)) for prefix in MLFLOW_3_PREFIXES),
        *(raw_route(services, operation) for operation in (*RAW, OPENAPI) if operation not in _FIRST),
    ]


def _mounted(prefix: str, app: MlflowRoutes) -> Mount:
    mount = Mount(prefix, app)
    # A percent-encoded id may hold a line break, at which Starlette's pattern would end.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


async def not_found(request: Request, _: Exception) -> Response:
    """Answer an unknown address as MLflow does. Repeated slashes redirect to the address without them, as in Flask."""
    merged = re.sub(r"/{2,}", "/", request.url.path)
    if merged != request.url.path and request.method == "GET":
        return RedirectResponse(request.url.replace(path=merged, scheme="", netloc=""), 308)
    return Response(NOT_FOUND_PAGE, 404, media_type="text/html")
