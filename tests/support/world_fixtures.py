"""Fixtures of tests that call servers in this process: one world of servers and a worker for each file."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.support.server_world import World, world
from tests.support.services import Services


@pytest.fixture(scope="module")
def here(services: Services) -> Iterator[World]:
    with world(services) as made:
        yield made


@pytest.fixture
def client(here: World) -> Iterator[httpx2.Client]:
    with here.client() as client:
        yield client
