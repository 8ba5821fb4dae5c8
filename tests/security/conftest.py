"""Fixtures of the security tests: the servers and worker of the integration tests, one set for each file."""

from tests.support.installations.server_fixtures import call, caller, client, servers

__all__ = ["call", "caller", "client", "servers"]
