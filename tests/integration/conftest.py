"""Fixtures of the integration tests."""

from tests.support.world_fixtures import client, here

__all__ = ["client", "here"]
