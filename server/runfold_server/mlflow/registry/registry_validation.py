"""MLflow's bounds on what the registry holds, refused in its words (`mlflow.utils.validation` 3.17.2)."""

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
"""What ends a name, control characters with line ends and tabs, and line separators: parsers of URIs drop some of them."""


def check_model_name(name: str, field: str = "name") -> str:
    """A registered model's name. Longer ones than 256 characters fail in MLflow's database; here they are refused."""
    if not name.strip():
        raise InvalidParameter(f"Missing value for required parameter '{field}'.")
    if "/" in name or ":" in name:
        raise InvalidParameter(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    plain = posixpath.normpath(name)
    if plain != name or plain == "." or plain.startswith(".."):
        raise InvalidParameter(
            f"{invalid_value('name', name)} Names may be treated as files in certain cases, and must not resolve to other names"
            f" when treated as such. This name would resolve to {plain!r}"
        )
    return check_length(field, MAX_MODEL_NAME_CHARS, name)


def check_new_model_name(name: str, field: str = "name") -> str:
    """A name that a model may be given: one that a `models:/` address can hold. Models that have others already stay reachable by name."""
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
    """A tag of a model or a version; long values are refused."""
    check_name(key, "key")
    return check_length("key", MAX_KEY, key), check_length("value", MAX_TAG_VALUE, value)


def check_tag_key(key: str) -> str:
    """The key of a tag to be removed. MLflow finds none of a longer one, which is no error there."""
    return check_name(key, "key")[:MAX_KEY]


def check_alias(alias: str) -> str:
    """A name that an alias can have, or could have had."""
    if not alias:
        raise InvalidParameter("Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(alias):
        raise InvalidParameter(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    return check_length("Registered model alias name", MAX_ALIAS_CHARS, alias)


def check_new_alias(alias: str) -> str:
    """A name that an alias may be given."""
    check_alias(alias)
    if alias.lower() == "latest":
        raise InvalidParameter("'latest' alias name (case insensitive) is reserved.")
    if _VERSION_ALIAS.fullmatch(alias):
        raise InvalidParameter(f"Version alias name '{alias}' is reserved.")
    return alias


def version_number(text: str) -> int:
    """A version's number as callers send it. Of more digits than Python reads at once, none is there: 0."""
    if len(text) > _MOST_DIGITS:
        return 0
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f"Parameter 'version' must be an integer, got '{text}'.") from None
