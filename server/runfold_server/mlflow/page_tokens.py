"""Page tokens: base64 of `{"offset": N}`, as MLflow's."""

import base64
import binascii
import json

from runfold_server.core.errors import InvalidParameter

_MOST_OFFSET = 2**53


def make_token(offset: int) -> str:
    """Token of the page that begins at `offset`."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def read_token(token: str | None) -> int:
    """Offset of a token; no token is the beginning. InvalidParameter in MLflow's words."""
    if not token:
        return 0
    try:
        decoded = base64.b64decode(token)
    except (binascii.Error, ValueError):
        raise InvalidParameter("Invalid page token, could not base64-decode") from None
    try:
        parsed = json.loads(decoded)
    except (ValueError, RecursionError):
        raise InvalidParameter(f"Invalid page token, decoded value={decoded!r}") from None
    offset = parsed.get("offset") if isinstance(parsed, dict) else None
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 < offset <= _MOST_OFFSET:
        raise InvalidParameter(f"Invalid page token, parsed value={parsed}")
    return offset
