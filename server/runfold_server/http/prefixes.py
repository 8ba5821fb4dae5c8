"""Prefixes of the paths that the server answers."""

NATIVE_PREFIX = "/api/runfold/v1"
MLFLOW_PREFIXES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")
MLFLOW_3_PREFIXES = ("/api/3.0/mlflow", "/ajax-api/3.0/mlflow")
