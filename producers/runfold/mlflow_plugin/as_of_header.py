"""MLflow's plugin that asks about the past: with RUNFOLD_AS_OF set, every request of MLflow's client says so.

A server of Runfold then answers reads of the moment (a time, or a position vector) and refuses writes. MLflow loads this module by its entry point
(`mlflow.request_header_provider`); it imports nothing of MLflow.
"""

import os

VARIABLE = "RUNFOLD_AS_OF"
HEADER = "x-runfold-as-of"


class AsOfHeader:
    """A request header provider as MLflow's registry asks it."""

    def in_context(self) -> bool:
        """Whether a moment is asked about."""
        return bool(os.environ.get(VARIABLE))

    def request_headers(self) -> dict[str, str]:
        """The header that says it."""
        return {HEADER: os.environ[VARIABLE]}
