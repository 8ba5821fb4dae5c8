"""Fixtures of tests that call servers in this process: one world of servers and a worker for each file."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.support.installations.server_pair import ServerPair, server_pair
from tests.support.services.running import Services


@pytest.fixture(scope="module")
def servers(services: Services) -> Iterator[ServerPair]:
    with server_pair(services) as made:
        yield made


@pytest.fixture
def client(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client() as client:
        yield client
