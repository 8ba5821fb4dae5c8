"""Everything that is served: MLflow's REST under its two prefixes, the native API, health and metrics."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from . import health, native
from .api import Api
from .dispatch import NOT_FOUND_PAGE, MlflowRoutes
from .mlflow import bulk, datasets, experiments, metrics, models, run_data, runs
from .mlflow.planned import PLANNED_2, PLANNED_3

MLFLOW_PREFIXES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")
OPERATIONS = (
    *experiments.OPERATIONS,
    *datasets.OPERATIONS,
    *runs.OPERATIONS,
    *run_data.OPERATIONS,
    *models.OPERATIONS,
    *metrics.OPERATIONS,
    *bulk.OPERATIONS,
)
ARTIFACT_PREFIXES = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")


def routes(api: Callable[[], Api]) -> list[BaseRoute]:
    """The routes of one application; `api` gives its parts once it has started."""
    served: list[BaseRoute] = [
        Mount(prefix, MlflowRoutes(api, prefix, OPERATIONS, PLANNED_2)) for prefix in MLFLOW_PREFIXES
    ]
    served += [Mount(prefix, MlflowRoutes(api, prefix, (), {"": "Artifacts"})) for prefix in ARTIFACT_PREFIXES]
    served += [
        Mount(prefix, MlflowRoutes(api, prefix, (health.SERVER_INFO,), PLANNED_3))
        for prefix in ("/api/3.0/mlflow", "/ajax-api/3.0/mlflow")
    ]
    served += [
        Route("/health", health.alive),
        Route("/health/live", health.alive),
        Route("/health/ready", health.ready(api)),
        Route("/version", health.version),
        Route("/metrics", health.metrics(api)),
        *native.routes(api),
    ]
    return served


async def not_found(*_: object) -> Response:
    """An unknown address, as MLflow answers it."""
    return Response(NOT_FOUND_PAGE, 404, media_type="text/html")
