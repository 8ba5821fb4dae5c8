"""Fixtures of the integration tests."""

from tests.support.installations.server_fixtures import call, caller, client, servers

__all__ = ["call", "caller", "client", "servers"]
