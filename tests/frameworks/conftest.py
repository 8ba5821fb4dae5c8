"""Fixtures of the trainings under real frameworks and launchers."""

from tests.support.sdk_world import kafka_uri, name, url, world

__all__ = ["kafka_uri", "name", "url", "world"]
