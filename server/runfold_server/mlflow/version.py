"""The release of MLflow whose protocol the server speaks."""

MLFLOW_VERSION = "3.17.2"
"""MLflow's client picks the newest path that this release serves."""
