"""Fixtures of the integration tests."""

from tests.support.installations.server_fixtures import client, servers

__all__ = ["client", "servers"]
