"""Fixtures of the integration tests."""

from world_fixtures import client, here

__all__ = ["client", "here"]
