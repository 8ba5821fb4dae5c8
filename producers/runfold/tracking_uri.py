"""Parsing of tracking URIs.

`http://…` is an API server. `kafka://host:port,host:port/namespace?api=http://…` is a log, and the API server to ask
for the ids of experiments. The namespace defaults to `runfold`, and `api` to RUNFOLD_API_URI.
"""

import os
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from runfold_schemas.errors import BadEvent
from runfold_schemas.positions.topics import check_namespace

from .errors import SdkError

URI_VARIABLE = "RUNFOLD_TRACKING_URI"
PLUGIN_PREFIX = "runfold+"
API_VARIABLE = "RUNFOLD_API_URI"
_WEB = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class KafkaTarget:
    """A log, and the API server of its installation."""

    brokers: str
    namespace: str
    api: str


def is_web(uri: str) -> bool:
    """Return whether a URI is the address of an API server."""
    return uri.startswith(_WEB)


def api_of(uri: str) -> str:
    """Return the address of the API server in a tracking URI. SdkError if the URI is invalid."""
    return uri if uri.startswith(_WEB) else kafka_target(uri).api


def web_of_plugin(uri: str) -> str | None:
    """Return the API server of an MLflow plugin URI, such as `runfold+kafka://…`; None for any other URI."""
    return api_of(uri.removeprefix(PLUGIN_PREFIX)).rstrip("/") if uri.startswith(PLUGIN_PREFIX) else None


def kafka_target(uri: str) -> KafkaTarget:
    """Parse a `kafka://` URI. SdkError describes what is wrong with it."""
    parts = urlsplit(uri)
    if parts.scheme != "kafka" or not parts.netloc:
        raise SdkError(
            f"tracking URI {uri!r} (argument tracking_uri or {URI_VARIABLE}) must start with http:// or https://, "
            "or be kafka://broker1:9092,broker2:9092/namespace?api=http://server:5000"
        )
    if "@" in parts.netloc:
        # Tracking URIs are printed, logged and written to spools.
        raise SdkError(
            "a kafka:// tracking URI must not contain a user name or password: "
            "set RUNFOLD_KAFKA_USERNAME and RUNFOLD_KAFKA_PASSWORD"
        )
    query = parse_qs(parts.query, keep_blank_values=True)
    if query.keys() - {"api"}:
        raise SdkError(f"tracking URI {uri!r}: api= is the only query parameter")
    api = query.get("api", [os.environ.get(API_VARIABLE, "")])[0].rstrip("/")
    if not api.startswith(_WEB):
        raise SdkError(
            f"tracking URI {uri!r} needs ?api=http://server:5000 or {API_VARIABLE}, "
            "because only an API server can look up the ids of experiments"
        )
    try:
        namespace = check_namespace(parts.path.strip("/") or "runfold")
    except BadEvent as error:
        raise SdkError(f"tracking URI {uri!r}: {error}") from None
    return KafkaTarget(parts.netloc, namespace, api)
