"""All operations: MLflow's REST API under its two prefixes, the native API, health and metrics."""

from typing import Any

from runfold_server.artifacts import model_files, presigned, proxy, run_files, version_files
from runfold_server.http.prefixes import MLFLOW_3_PREFIXES, MLFLOW_PREFIXES
from runfold_server.mlflow.logged_models import log_model, search
from runfold_server.mlflow.logged_models import logged_models as logged_models
from runfold_server.mlflow.registry import model_versions, registered_models
from runfold_server.mlflow.registry import webhooks as mlflow_webhooks
from runfold_server.mlflow.tracking import (
    datasets,
    declined_traces,
    experiments,
    log_batch,
    metric_history,
    metric_history_bulk,
    run_logging,
    runs,
)
from runfold_server.native import branches, generations, promotions, webhooks
from runfold_server.native import models as native_models
from runfold_server.native import runs as native_runs
from runfold_server.native.log import append_events, asyncapi, event_stream, positions
from runfold_server.native.series import history, keys, stream
from runfold_server.native.series import routes as series
from runfold_server.native.timeline import routes as timeline
from runfold_server.openapi.document import document, openapi_operation
from runfold_server.schema_registry import routes as schema_registry

from . import health

OPERATIONS = (
    *experiments.OPERATIONS,
    *datasets.OPERATIONS,
    *runs.OPERATIONS,
    *run_logging.OPERATIONS,
    log_batch.OPERATION,
    *log_model.OPERATIONS,
    *search.OPERATIONS,
    *logged_models.OPERATIONS,
    *registered_models.OPERATIONS,
    *model_versions.OPERATIONS,
    *metric_history.OPERATIONS,
    *metric_history_bulk.OPERATIONS,
    *mlflow_webhooks.OPERATIONS,
    run_files.LIST,
    model_files.LIST,
)
OPERATIONS_3 = (health.SERVER_INFO, declined_traces.START)
RAW = (
    *proxy.OPERATIONS,
    *presigned.OPERATIONS,
    *run_files.OPERATIONS,
    *model_files.OPERATIONS,
    *version_files.OPERATIONS,
    *append_events.OPERATIONS,
    *positions.OPERATIONS,
    *native_runs.OPERATIONS,
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
    declined_traces.SPANS,
    *health.OPERATIONS,
)
"""Operations other than MLflow's JSON calls. Each has its whole path."""


def api_document() -> dict[str, Any]:
    """Return the OpenAPI document of all routes."""
    return document({MLFLOW_PREFIXES[0]: OPERATIONS, MLFLOW_3_PREFIXES[0]: OPERATIONS_3}, (*RAW, OPENAPI))


OPENAPI = openapi_operation(api_document)
