"""Fixtures of tests that call servers in this process: one world of servers and a worker for each file."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.support.installations.server_pair import ServerPair, server_pair
from tests.support.mlflow.caller import Caller
from tests.support.services.running import Services


@pytest.fixture(scope="module")
def servers(services: Services) -> Iterator[ServerPair]:
    with server_pair(services) as made:
        yield made


@pytest.fixture
def client(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client() as client:
        yield client


@pytest.fixture
def caller(client: httpx2.Client) -> Caller:
    """Calls MLflow's REST API of one server."""
    return Caller(client)


@pytest.fixture
def call(servers: ServerPair) -> Iterator[Caller]:
    """Calls both servers in turn."""
    with servers.client(0) as one, servers.client(1) as two:
        yield Caller(one, two)
