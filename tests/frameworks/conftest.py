"""Fixtures of the trainings under real frameworks and launchers."""

from tests.support.installations.sdk_fixtures import deployment, kafka_uri, name, url

__all__ = ["deployment", "kafka_uri", "name", "url"]
