"""Fixtures of the security tests: the same world of servers and a worker as the integration tests, one for each file."""

from tests.support.world_fixtures import client, here

__all__ = ["client", "here"]
