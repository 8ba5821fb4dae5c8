"""What the tests of `import runfold` on real services share: an installation per module, its addresses, and reading
back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.installations.installation import Installation, Program
from tests.support.installations.shared import shared_installation, start_together
from tests.support.services.running import Services

Deployment = tuple[Installation, Program]
"""An installation with a worker, and its server."""
_numbers = count(1)


@pytest.fixture(scope="module")
def deployment(
    services: Services, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Deployment]:
    """One for all tests of a module: they differ by experiment."""
    name = "_".join(request.module.__name__.split(".")[-2:]).replace("test_", "")
    with shared_installation(services, name, tmp_path_factory.mktemp(name)) as installation:
        _, server = start_together(installation, "worker", "server")
        yield installation, server


@pytest.fixture
def url(deployment: Deployment) -> str:
    """Of the server."""
    return deployment[1].url


@pytest.fixture
def kafka_uri(deployment: Deployment) -> str:
    """Straight to the log."""
    return kafka_uri_of(*deployment)


def kafka_uri_of(installation: Installation, server: Program) -> str:
    """The tracking URI that writes to an installation's log, and asks this server."""
    return f"kafka://{installation.services.kafka}/{installation.namespace}?api={server.url}"


@pytest.fixture
def name() -> str:
    """Of an experiment that no other test has."""
    return f"experiment {next(_numbers)}"


def history(url: str, run: str, key: str) -> list[tuple[int, float]]:
    """(step, value) as the MLflow client reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
    return [(point.step, point.value) for point in MlflowClient(url).get_metric_history(run, key)]


def command(
    *arguments: str, env: dict[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """The `runfold` command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "runfold_stack", *arguments],
        env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
