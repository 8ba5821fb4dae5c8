"""Detection of credentials in addresses. The log keeps addresses for ever, so they must hold no secrets."""

import re
from urllib.parse import parse_qsl, urlsplit

from runfold_server.core.errors import InvalidParameter

_PASSWORD = re.compile(r"//[^/?#@\s]*:[^/?#@\s]+@")
"""Also in an address within another, as in `jdbc:mysql://user:password@host`."""
_SECRET = re.compile(r"pass|pwd|secret|token|signature|credential|access_?key|api_?key|^sig$", re.IGNORECASE)
_USER_IS_CREDENTIAL = frozenset({"http", "https", "mlflow-artifacts"})
"""Schemes where a user name is a credential. Elsewhere it may be part of the place: Azure's container, SFTP's login."""


def holds_credentials(uri: str) -> bool:
    """Return whether the address holds a password, a signature or the like."""
    try:
        parsed = urlsplit(uri)
        user = parsed.username
    except ValueError:
        return bool(_PASSWORD.search(uri))
    if _PASSWORD.search(uri) or parsed.password or (user is not None and parsed.scheme in _USER_IS_CREDENTIAL):
        return True
    return any(_SECRET.search(name) for name, _ in parse_qsl(parsed.query, keep_blank_values=True))


def check_no_credentials(parameter: str, uri: str) -> str:
    """Return the address. InvalidParameter, which does not repeat it, if it holds credentials."""
    if holds_credentials(uri):
        raise InvalidParameter(
            f"'{parameter}' holds credentials (a user, a password, or a query such as a token or a signature), and "
            "the log would keep it for ever. Send the address without them, and give the credentials to its "
            "readers: in their environment, or in a profile of the store's client."
        )
    return uri
