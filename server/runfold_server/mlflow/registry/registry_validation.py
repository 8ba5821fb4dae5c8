"""MLflow's limits of the registry, with its error messages (`mlflow.utils.validation` 3.17.2)."""

import posixpath
import re

from runfold_schemas.events.registered_models import MAX_ALIAS_CHARS, MAX_MODEL_NAME_CHARS
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.field_values import invalid_value
from runfold_server.mlflow.validation import MAX_KEY, check_length, check_name

MAX_TAG_VALUE = 100_000
MAX_SOURCE = 8192
_ALIAS = re.compile(r"[\w\-]*")
_VERSION_ALIAS = re.compile(r"[vV]\d+")
_MOST_DIGITS = 4000
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_NOT_IN_URIS = re.compile(r"[@?#\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end a name, control characters and line separators: parsers of URIs drop some of them."""


def check_model_name(name: str, field: str = "name") -> str:
    """Return a valid name of a registered model.

    More than 256 characters, which fail in MLflow's database, are rejected.
    """
    if not name.strip():
        raise InvalidParameter(f"Missing value for required parameter '{field}'.")
    if "/" in name or ":" in name:
        raise InvalidParameter(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    plain = posixpath.normpath(name)
    if plain != name or plain == "." or plain.startswith(".."):
        raise InvalidParameter(
            f"{invalid_value('name', name)} Names may be treated as files in certain cases, and must not resolve to "
            f"other names when treated as such. This name would resolve to {plain!r}"
        )
    return check_length(field, MAX_MODEL_NAME_CHARS, name)


def check_new_model_name(name: str, field: str = "name") -> str:
    """Return a valid name of a new model, which a `models:/` address can contain. Older models keep other names."""
    check_model_name(name, field)
    if wrong := sorted(set(_NOT_IN_URIS.findall(name))):
        raise InvalidParameter(
            f"Invalid model name {name!r}. No models:/ URI can hold {', '.join(map(repr, wrong))}: "
            "names cannot contain '/', ':', '@', '?', '#', line ends, tabs or other control characters."
        )
    if escape := _ESCAPE.search(name):
        raise InvalidParameter(
            f"Invalid model name {name!r}. In a models:/ URI {escape[0]!r} means another character: "
            "names cannot contain '%' with two hexadecimal digits after it."
        )
    return name


def check_tag(key: str, value: str) -> tuple[str, str]:
    """Return a valid tag of a model or a version; long values are rejected."""
    check_name(key, "key")
    return check_length("key", MAX_KEY, key), check_length("value", MAX_TAG_VALUE, value)


def check_tag_key(key: str) -> str:
    """Return the key of a tag to remove. MLflow finds no tag for a longer key, which is no error there."""
    return check_name(key, "key")[:MAX_KEY]


def check_alias(alias: str) -> str:
    """Return a valid name of an existing alias."""
    if not alias:
        raise InvalidParameter("Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(alias):
        raise InvalidParameter(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    return check_length("Registered model alias name", MAX_ALIAS_CHARS, alias)


def check_new_alias(alias: str) -> str:
    """Return a valid name of a new alias."""
    check_alias(alias)
    if alias.lower() == "latest":
        raise InvalidParameter("'latest' alias name (case insensitive) is reserved.")
    if _VERSION_ALIAS.fullmatch(alias):
        raise InvalidParameter(f"Version alias name '{alias}' is reserved.")
    return alias


def version_number(text: str) -> int:
    """Return the number of a version; 0, which no version has, for more digits than Python parses."""
    if len(text) > _MOST_DIGITS:
        return 0
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f"Parameter 'version' must be an integer, got '{text}'.") from None
