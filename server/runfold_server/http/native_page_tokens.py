"""Page tokens of the native API: JSON in URL-safe base64. MLflow's calls have the tokens that MLflow prescribes."""

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from runfold_server.core.errors import InvalidParameter

T = TypeVar("T")


def encode_page_token(position: Any) -> str:
    """Return the token of the page that begins at a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode()


def decode_page_token(token: str, kind: type[T]) -> T:
    """Return the position of a token; InvalidParameter if it is none of ours."""
    try:
        return msgspec.json.decode(base64.b64decode(token, b"-_", validate=True), type=kind)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise bad_page_token() from None


def bad_page_token() -> InvalidParameter:
    """Return the error for a token that no answer to this request had."""
    return InvalidParameter("Parameter 'page_token' must be the `next_page_token` of an earlier answer.")
