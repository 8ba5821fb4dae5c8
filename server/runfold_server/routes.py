"""Everything that is served: MLflow's REST under its two prefixes, the native API, health and metrics."""

from . import health
from .artifacts import direct, of_models, of_runs, of_versions, proxy
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
    traces,
)
from .mlflow import webhooks as mlflow_webhooks
from .native import branches, events, generations, history, keys, log, promotions, series, webhooks
from .native import models as native_models
from .native import runs as native_runs
from .public import asyncapi, event_stream, schema_registry
from .timeline import operations as timeline

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
OPERATIONS_3 = (health.SERVER_INFO, traces.START)
RAW = (
    *proxy.OPERATIONS,
    *direct.OPERATIONS,
    *of_runs.OPERATIONS,
    *of_models.OPERATIONS,
    *of_versions.OPERATIONS,
    *events.OPERATIONS,
    *log.OPERATIONS,
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
    traces.SPANS,
    *health.OPERATIONS,
)
"""Routes that are no JSON calls of MLflow's: each is declared whole."""
