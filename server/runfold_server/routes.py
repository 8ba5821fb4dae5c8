"""Everything that is served: MLflow's REST under its two prefixes, the native API, health and metrics."""

import re
from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount

from . import branches, described, generations, health, history, keys, native, promotions, series, timeline, webhooks
from . import models as native_models
from .api import Api
from .artifacts import direct, of_models, of_runs, proxy
from .dispatch import NOT_FOUND_PAGE, MlflowRoutes, raw_route
from .live import stream
from .mlflow import (
    bulk,
    datasets,
    experiments,
    logged_models,
    metrics,
    model_search,
    model_versions,
    models,
    registered_models,
    run_data,
    runs,
)
from .mlflow import webhooks as mlflow_webhooks
from .mlflow.planned import PLANNED_2, PLANNED_3
from .public import asyncapi, event_stream, schema_registry

MLFLOW_PREFIXES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")
MLFLOW_3_PREFIXES = ("/api/3.0/mlflow", "/ajax-api/3.0/mlflow")
OPERATIONS = (
    *experiments.OPERATIONS,
    *datasets.OPERATIONS,
    *runs.OPERATIONS,
    *run_data.OPERATIONS,
    *models.OPERATIONS,
    *model_search.OPERATIONS,
    *logged_models.OPERATIONS,
    *registered_models.OPERATIONS,
    *model_versions.OPERATIONS,
    *metrics.OPERATIONS,
    *bulk.OPERATIONS,
    *mlflow_webhooks.OPERATIONS,
    of_runs.LIST,
    of_models.LIST,
)
OPERATIONS_3 = (health.SERVER_INFO,)
RAW = (
    *proxy.OPERATIONS,
    *direct.OPERATIONS,
    *of_runs.OPERATIONS,
    *of_models.OPERATIONS,
    *native.OPERATIONS,
    *branches.OPERATIONS,
    *keys.OPERATIONS,
    *native_models.OPERATIONS,
    *promotions.OPERATIONS,
    *history.OPERATIONS,
    *series.OPERATIONS,
    *stream.OPERATIONS,
    *timeline.OPERATIONS,
    *generations.OPERATIONS,
    *schema_registry.OPERATIONS,
    *event_stream.OPERATIONS,
    *asyncapi.OPERATIONS,
    *webhooks.OPERATIONS,
    *health.OPERATIONS,
    described.OPERATION,
)
"""Routes that are no JSON calls of MLflow's: each is declared whole."""
_FIRST = (*of_runs.OPERATIONS, *of_models.OPERATIONS)
"""Of them, those some of which lie below a mount."""


def routes(api: Callable[[], Api]) -> list[BaseRoute]:
    """The routes of one application; `api` gives its parts once it has started."""
    return [
        *(raw_route(api, operation) for operation in _FIRST),
        *(_mounted(prefix, MlflowRoutes(api, prefix, OPERATIONS, PLANNED_2)) for prefix in MLFLOW_PREFIXES),
        *(_mounted(prefix, MlflowRoutes(api, prefix, OPERATIONS_3, PLANNED_3)) for prefix in MLFLOW_3_PREFIXES),
        *(raw_route(api, operation) for operation in RAW if operation not in _FIRST),
    ]


def _mounted(prefix: str, app: MlflowRoutes) -> Mount:
    mount = Mount(prefix, app)
    # An id may hold a line break, percent-encoded, and Starlette's pattern ends at one.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


async def not_found(*_: object) -> Response:
    """An unknown address, as MLflow answers it."""
    return Response(NOT_FOUND_PAGE, 404, media_type="text/html")
