"""Page tokens of searches of logged models. As MLflow's, they contain the search and reject another one."""

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
    """Return the token of the page of this search that begins at `offset`."""
    search = {"experiment_ids": experiment_ids, "filter_string": filter_string, "order_by": order_by, "offset": offset}
    return base64.b64encode(json.dumps(search).encode()).decode()


def read_token(token: str | None, experiment_ids: Sequence[str], filter_string: str | None, order_by: Any) -> int:
    """Return the offset of a token; without one, 0.

    InvalidParameter, in MLflow's words, for a malformed token or one of another search.
    """
    if not token:
        return 0
    try:
        parsed = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidParameter(f"Invalid page token: {token}. {error}") from None
    offset = parsed.get("offset") if isinstance(parsed, dict) else None
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 < offset <= _MOST_OFFSET:
        raise InvalidParameter(f"Invalid page token: {token}. It has no offset.")
    for field, word, what, wanted in zip(
        _FIELDS, _WORDS, _WHAT, (list(experiment_ids), filter_string, order_by), strict=True
    ):
        found = parsed.get(field) or None
        if found != (wanted or None):
            verb = "do" if word.endswith("s") else "does"
            raise InvalidParameter(
                f"{word} in the page token {verb} not match the requested {what}. Expected: {wanted}. Found: {found}"
            )
    return offset
