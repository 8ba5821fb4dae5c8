"""Addresses that callers give are kept in the log, which forgets nothing: no secrets belong in them."""

import re
from urllib.parse import parse_qsl, urlsplit

from runfold_server.core.errors import InvalidParameter

_PASSWORD = re.compile(r"//[^/?#@\s]*:[^/?#@\s]+@")
"""Also where the address is within another, as in `jdbc:mysql://user:password@host`."""
_SECRET = re.compile(r"pass|pwd|secret|token|signature|credential|access_?key|api_?key|^sig$", re.IGNORECASE)
_NAMES_NOBODY = frozenset({"http", "https", "mlflow-artifacts"})
"""Schemes where a user's name is a credential. With others it may be part of the place: a container of Azure's, a login for SFTP."""


def holds_credentials(uri: str) -> bool:
    """Whether there is a password, a signature or the like in the address."""
    try:
        parsed = urlsplit(uri)
        user = parsed.username
    except ValueError:
        return bool(_PASSWORD.search(uri))
    if _PASSWORD.search(uri) or parsed.password or (user is not None and parsed.scheme in _NAMES_NOBODY):
        return True
    return any(_SECRET.search(name) for name, _ in parse_qsl(parsed.query, keep_blank_values=True))


def check_no_credentials(parameter: str, uri: str) -> str:
    """The address; InvalidParameter, which does not repeat it, if it holds credentials."""
    if holds_credentials(uri):
        raise InvalidParameter(
            f"'{parameter}' holds credentials (a user, a password, or a query such as a token or a signature), and it would be kept in the "
            "log for ever. Give the address without them, and the credentials to those who read there: in their environment, or in "
            "a profile of the store's client."
        )
    return uri
