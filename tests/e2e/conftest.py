"""Fixtures of the end-to-end tests; where a module has its own of the same name, that one counts."""

from sdk_world import kafka_uri, name, url, world

__all__ = ["kafka_uri", "name", "url", "world"]
