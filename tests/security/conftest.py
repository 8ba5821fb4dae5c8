"""Fixtures of the security tests: the same world of servers and a worker as the integration tests, one for each file."""

from tests.support.installations.server_fixtures import call, caller, client, servers

__all__ = ["call", "caller", "client", "servers"]
