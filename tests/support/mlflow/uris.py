"""The tracking URIs under which MLflow's client reaches one server: MLflow's own, and those of our plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.installations.sdk_fixtures import kafka_uri_of

if TYPE_CHECKING:
    from tests.support.installations.installation import Installation, Program

KINDS = ("http", "runfold+http", "runfold+kafka")


def mlflow_uri(kind: str, installation: Installation, server: Program) -> str:
    """The tracking URI of one kind."""
    return {
        "http": server.url,
        "runfold+http": f"runfold+{server.url}",
        "runfold+kafka": f"runfold+{kafka_uri_of(installation, server)}",
    }[kind]
