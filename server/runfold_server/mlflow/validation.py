"""MLflow's limits of names, values and batches, with its error messages (`mlflow.utils.validation` 3.17.2)."""

import posixpath
import re
import urllib.parse
from collections.abc import Iterable

from runfold_schemas.events.artifact_paths import append_path
from runfold_schemas.events.rank_reduction import REDUCTION_TAG, Reduction
from runfold_server.core.errors import InvalidParameter
from runfold_server.core.own_folders import is_own
from runfold_server.http.field_values import invalid_value
from runfold_server.mlflow.tracking.location_credentials import check_no_credentials

MAX_METRICS = 1000
MAX_PARAMS = 100
MAX_TAGS = 100
MAX_ENTITIES = 1000
MAX_KEY = 250
MAX_RUN_NAME = 8000
MAX_LONG_VALUE = 512 * 1024
"""Characters of a param's or a run tag's value.

MLflow cuts params at 6000 and tags at 8000, which breaks lists in tags.
"""
MAX_EXPERIMENT_NAME = 500
MAX_EXPERIMENT_TAG_VALUE = 20_000
MAX_DATASET_NAME = 500
MAX_DATASET_DIGEST = 36
MAX_DATASET_SOURCE = 65_535
MAX_DATASET_SCHEMA = 1_048_575
MAX_DATASET_PROFILE = 16_777_215
MAX_INPUT_TAG_KEY = 255
MAX_INPUT_TAG_VALUE = 500
MAX_ARTIFACT_LOCATION = 2048

_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_NAME = re.compile(r"[/\w.\- :]*")
_BAD_CHARACTER = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and "
    "slashes (/)."
)


def check_run_id(run_id: str) -> str:
    """Return a valid run id."""
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidParameter(invalid_value("run_id", run_id)[:-1] + ".")
    return run_id


def is_id(text: str) -> bool:
    """Return whether the text can be the id of a run or a logged model in an event."""
    return _RUN_ID.fullmatch(text) is not None and text.isascii()


def check_name(name: str, path: str) -> str:
    """Return a key with allowed characters that is no path out of its folder."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter(f"{invalid_value(path, name)} {_BAD_CHARACTER}")
    plain = posixpath.normpath(name)
    if plain != name or plain == "." or plain.startswith(("..", "/")):
        raise InvalidParameter(
            f"{invalid_value(path, name)} Names may be treated as files in certain cases, and must not resolve to "
            f"other names when treated as such. This name would resolve to {plain!r}"
        )
    return name


def check_length(what: str, limit: int, value: str) -> str:
    """Return a value of at most `limit` characters."""
    if len(value) > limit:
        raise InvalidParameter(f"'{what}' exceeds the maximum length of {limit} characters")
    return value


def check_metric(key: str, value: float, time_ms: int, path: str = "") -> None:
    """Check the key and the time (ms since the epoch) of a metric. `value` is for the message."""
    check_name(key, f"{path}name")
    if time_ms < 0:
        raise InvalidParameter(
            f"{invalid_value(f'{path}timestamp', time_ms)} metric '{key}' (value={value}). Timestamp must be a "
            "nonnegative long (64-bit integer) "
        )
    check_length("Metric name", MAX_KEY, key)


def check_param(key: str, value: str, path: str = "") -> tuple[str, str]:
    """Return a valid param; its value is never cut."""
    check_name(key, f"{path}key")
    return check_length("Param key", MAX_KEY, key), check_length("Param value", MAX_LONG_VALUE, value)


def check_tag(key: str, value: str, path: str = "") -> tuple[str, str]:
    """Return a valid tag of a run; its value is never cut."""
    check_name(key, f"{path}key")
    check_length(f"{path}key", MAX_KEY, key)
    return key, check_reduction(key, check_length(f"{path}value", MAX_LONG_VALUE, value))


def check_experiment_tag(key: str, value: str) -> tuple[str, str]:
    """Return a valid tag of an experiment; long values are rejected."""
    check_name(key, "key")
    check_length("key", MAX_KEY, key)
    return key, check_reduction(key, check_length("value", MAX_EXPERIMENT_TAG_VALUE, value))


def check_reduction(key: str, value: str) -> str:
    """Return a valid value of a tag. The tag of the rank reduction allows only its own values."""
    if key == REDUCTION_TAG and value not in set(Reduction):
        raise InvalidParameter(f"{invalid_value(REDUCTION_TAG, value)} It is one of {', '.join(Reduction)}.")
    return value


def check_experiment_name(name: str) -> str:
    """Return a valid name of an experiment."""
    return check_length("name", MAX_EXPERIMENT_NAME, name)


def check_unique_params(keys: Iterable[str]) -> None:
    """Reject a key that occurs twice, even with one value."""
    seen: set[str] = set()
    twice = []
    for key in keys:
        if key in seen:
            twice.append(key)
        seen.add(key)
    if twice:
        raise InvalidParameter(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one "
            "param value per param key."
        )


def too_many(what: str, limit: int, count: object = "{0}") -> str:
    """Return MLflow's message for a log-batch of too many entities. By default it has a placeholder for the count."""
    return (
        f"A batch logging request can contain at most {limit} {what}. Got {count} {what}. Please split up {what} "
        "across multiple requests and try again."
    )


def check_batch(metrics: int, params: int, tags: int) -> None:
    """Check the number of entities of a log-batch request."""
    for what, limit, count in (
        ("metrics", MAX_METRICS, metrics),
        ("params", MAX_PARAMS, params),
        ("tags", MAX_TAGS, tags),
        ("metrics, params, and tags", MAX_ENTITIES, metrics + params + tags),
    ):
        if count > limit:
            raise InvalidParameter(too_many(what, limit, count))


def check_artifact_location(location: str) -> str:
    """Return a valid artifact location of an experiment."""
    try:
        parsed = urllib.parse.urlparse(location)
        query = _decoded(parsed.query)
    except ValueError as error:
        raise InvalidParameter(f"'artifact_location' is not a URI: {error}") from None
    if parsed.fragment or parsed.params:
        raise InvalidParameter("'artifact_location' URL can't include fragments or params.")
    if ".." in query:
        raise InvalidParameter("Invalid query string")
    check_no_credentials("artifact_location", location)
    if location.startswith("runs:"):
        raise InvalidParameter(f"Artifact location cannot be a runs:/ URI. Given: '{location}'")
    if len(location) > MAX_ARTIFACT_LOCATION:
        raise InvalidParameter(
            "Invalid artifact path length. The length of the artifact path cannot be greater than "
            f"{MAX_ARTIFACT_LOCATION} characters."
        )
    if parsed.scheme == "mlflow-artifacts" and not parsed.netloc:
        _check_folder(location)
    return location


def _check_folder(location: str) -> None:
    """Check that runs and models get folders of their own in this folder of the server's store."""
    for folder in (f"{'0' * 32}/artifacts", "models/m/artifacts"):
        if not is_own(append_path(location, folder), folder):
            raise InvalidParameter(
                "'artifact_location' must be a plain folder of the artifact store, such as mlflow-artifacts:/team: "
                "without a query, escapes, '.' or '..', and not in the folder of a run or model. Given: "
                f"'{location[:1000]}'"
            )


def _decoded(query: str) -> str:
    """Return the query without any layer of percent-encoding: `mlflow.utils.uri._decode`."""
    for _ in range(10):
        parsed = urllib.parse.urlunparse(urllib.parse.urlparse(urllib.parse.unquote(query)))
        if parsed == query:
            return query
        query = parsed
    raise InvalidParameter("Invalid query string: it is escaped too often")


def parse_experiment_id(text: str) -> int:
    """Return the number of an experiment id, which MLflow has in a string."""
    try:
        return int(text) if len(text) < 100 else 2**64
    except ValueError:
        raise InvalidParameter(f"Invalid experiment ID '{text}'. Experiment ID must be a valid integer.") from None
