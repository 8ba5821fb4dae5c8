"""What a tracking URI names.

`http://…` is an API server. `kafka://host:port,host:port/namespace?api=http://…` is a log, and the API server that answers
what only folds know: an experiment's id. The namespace is `runfold` unless named; RUNFOLD_API_URI may take the place of `api`.
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
    """A log, and who answers for it."""

    brokers: str
    namespace: str
    api: str


def is_web(uri: str) -> bool:
    """Whether a URI is that of an API server."""
    return uri.startswith(_WEB)


def api_of(uri: str) -> str:
    """The address of the API server that a URI names; SdkError says what a URI may be."""
    return uri if uri.startswith(_WEB) else kafka_target(uri).api


def web_of_plugin(uri: str) -> str | None:
    """The API server of a tracking URI of MLflow's plugin, such as `runfold+kafka://…`; None: it is another one's URI."""
    return api_of(uri.removeprefix(PLUGIN_PREFIX)).rstrip("/") if uri.startswith(PLUGIN_PREFIX) else None


def kafka_target(uri: str) -> KafkaTarget:
    """Read a `kafka://` URI; SdkError says what is wrong with it."""
    parts = urlsplit(uri)
    if parts.scheme != "kafka" or not parts.netloc:
        raise SdkError(
            f"tracking URI {uri!r} (argument tracking_uri or {URI_VARIABLE}) must begin with http:// or https://, "
            "or be kafka://broker1:9092,broker2:9092/namespace?api=http://server:5000"
        )
    if "@" in parts.netloc:
        # Addresses are printed, logged, and lie in spools.
        raise SdkError(
            "a kafka:// tracking URI must not have a user or a password in it: set RUNFOLD_KAFKA_USERNAME and RUNFOLD_KAFKA_PASSWORD"
        )
    query = parse_qs(parts.query, keep_blank_values=True)
    if query.keys() - {"api"}:
        raise SdkError(f"tracking URI {uri!r}: nothing but api= may stand behind the question mark")
    api = query.get("api", [os.environ.get(API_VARIABLE, "")])[0].rstrip("/")
    if not api.startswith(_WEB):
        raise SdkError(
            f"tracking URI {uri!r} needs ?api=http://server:5000 or {API_VARIABLE}: the log's folds give experiments their ids, "
            "and an API server is who knows them"
        )
    try:
        namespace = check_namespace(parts.path.strip("/") or "runfold")
    except BadEvent as error:
        raise SdkError(f"tracking URI {uri!r}: {error}") from None
    return KafkaTarget(parts.netloc, namespace, api)
