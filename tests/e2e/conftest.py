"""Fixtures of the end-to-end tests; where a module has its own of the same name, that one counts."""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.support.installations.sdk_fixtures import deployment, kafka_uri, name, url

__all__ = ["deployment", "kafka_uri", "name", "url"]


@pytest.fixture(scope="module", autouse=True)
def mlflow_of_this_module() -> Iterator[None]:
    """MLflow's client keeps its server and its experiment in globals and in the environment: one module's are not the
    next one's.
    """
    yield
    for variable in [one for one in os.environ if one.startswith("MLFLOW_")]:
        del os.environ[variable]
    # Only if a test imported it: it takes seconds.
    if (fluent := sys.modules.get("mlflow.tracking.fluent")) is not None:
        fluent._active_experiment_id = None  # type: ignore[attr-defined]
