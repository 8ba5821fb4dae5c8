"""Fixtures of all tests. Services start when the first test asks for them."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.installations.installation import Installation, new_installation
from tests.support.services.running import Services, running_services

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def spool_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of the spools of this test's runs, created by the first of them; the user's own is not touched."""
    root = tmp_path_factory.getbasetemp() / f"spool-{next(_numbers)}"
    monkeypatch.setenv("RUNFOLD_SPOOL_DIR", str(root))
    return root


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Kafka and Postgres, real ones, for the whole session."""
    with running_services(tmp_path_factory.mktemp("services")) as running, pytest.MonkeyPatch.context() as environment:
        # For runs that write to Kafka directly: here, and in the processes that tests start.
        for name, value in running.kafka.security.variables().items():
            environment.setenv(name, value)
        yield running


@pytest.fixture
async def installation(services: Services, tmp_path: Path) -> AsyncIterator[Installation]:
    """A namespace of its own: log, read models, no program yet. Two partitions of runs and of metrics."""
    async with new_installation(services, f"test_{next(_numbers)}", tmp_path) as made:
        yield made
