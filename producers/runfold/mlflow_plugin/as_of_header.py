"""The header provider for reads of the past: RUNFOLD_AS_OF is added to every request of MLflow's client.

The value is a time or a position vector. A Runfold server then answers reads as of that moment, and rejects writes.
MLflow loads this module through the entry point `mlflow.request_header_provider`. It does not import MLflow.
"""

import os

VARIABLE = "RUNFOLD_AS_OF"
HEADER = "x-runfold-as-of"


class AsOfHeader:
    """A request header provider for MLflow's registry of providers."""

    def in_context(self) -> bool:
        """Return whether RUNFOLD_AS_OF is set."""
        return bool(os.environ.get(VARIABLE))

    def request_headers(self) -> dict[str, str]:
        """Return the header with the moment."""
        return {HEADER: os.environ[VARIABLE]}
