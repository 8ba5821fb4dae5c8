"""Tokens of searches of logged models: MLflow's, which hold the search and refuse to go on with another."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from runfold_server.core.errors import InvalidParameter

_MOST_OFFSET = 2**53
_FIELDS = ("experiment_ids", "filter_string", "order_by")
_WORDS = ("Experiment IDs", "Filter string", "Order by")
_WHAT = ("experiment IDs", "filter string", "order by")


def make_token(experiment_ids: Sequence[str], filter_string: str | None, order_by: Any, offset: int) -> str:
    """Token of the page of this search that begins at `offset`."""
    said = {"experiment_ids": experiment_ids, "filter_string": filter_string, "order_by": order_by, "offset": offset}
    return base64.b64encode(json.dumps(said).encode()).decode()


def read_token(token: str | None, experiment_ids: Sequence[str], filter_string: str | None, order_by: Any) -> int:
    """Offset of a token; no token is the beginning. InvalidParameter, in MLflow's words, if it is none, or of another search."""
    if not token:
        return 0
    try:
        said = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidParameter(f"Invalid page token: {token}. {error}") from None
    offset = said.get("offset") if isinstance(said, dict) else None
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 < offset <= _MOST_OFFSET:
        raise InvalidParameter(f"Invalid page token: {token}. It names no offset.")
    for field, word, what, asked in zip(
        _FIELDS, _WORDS, _WHAT, (list(experiment_ids), filter_string, order_by), strict=True
    ):
        found = said.get(field) or None
        if found != (asked or None):
            verb = "do" if word.endswith("s") else "does"
            raise InvalidParameter(
                f"{word} in the page token {verb} not match the requested {what}. Expected: {asked}. Found: {found}"
            )
    return offset
