"""A namespace for each test on the session's Postgres.

Import the fixtures: `from postgres import namespace, postgres_dsn`.
"""

import itertools
from typing import NamedTuple

import pytest

from runfold_projections.control.migrations import migrate
from tests.support.services.running import Services

_numbers = itertools.count(1)


class Namespace(NamedTuple):
    """An installation's schemas, migrated: `name` is also the control schema, whose views take inserts."""

    dsn: str
    name: str


@pytest.fixture(scope="session")
def postgres_dsn(services: Services) -> str:
    """A DSN of a running server."""
    return services.postgres


@pytest.fixture
async def namespace(postgres_dsn: str) -> Namespace:
    """A new installation, with an empty live generation of each projection."""
    name = f"tables_{next(_numbers)}"
    await migrate(postgres_dsn, name)
    return Namespace(postgres_dsn, name)
