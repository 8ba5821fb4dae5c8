"""Page tokens: base64 of `{"offset": N}`, as MLflow's, or of `{"after": STEP, "reduction": R}`.

The latter continues after a step, because a late rank may add steps before it, and keeps the reduction of the first
page even if the run's tag has changed since.
"""

import base64
import binascii
import json
from typing import Any, NamedTuple

from runfold_schemas.events.rank_reduction import Reduction
from runfold_server.core.errors import InvalidParameter

_MOST_OFFSET = 2**53
_REDUCTIONS = [one.value for one in Reduction if one is not Reduction.ALL]


class PageAfterStep(NamedTuple):
    """The page of a history with this reduction that begins after a step."""

    step: int
    reduction: Reduction


def make_token(offset: int) -> str:
    """Return the token of the page that begins at `offset`."""
    return _encoded({"offset": offset})


def make_step_token(page: PageAfterStep) -> str:
    """Return the token of a page of a history that is reduced over ranks."""
    return _encoded({"after": page.step, "reduction": page.reduction})


def read_token(token: str | None) -> int:
    """Return the offset of a token; without one, 0. InvalidParameter in MLflow's words."""
    return _offset(_parsed(token)) if token else 0


def read_token_of_history(token: str) -> int | PageAfterStep:
    """Return where a page of a history begins. InvalidParameter in MLflow's words."""
    parsed = _parsed(token)
    if not isinstance(parsed, dict) or "after" not in parsed:
        return _offset(parsed)
    step, reduction = parsed["after"], parsed.get("reduction")
    if type(step) is not int or not -(2**63) <= step < 2**63 or reduction not in _REDUCTIONS:
        raise InvalidParameter(f"Invalid page token, parsed value={parsed}")
    return PageAfterStep(step, Reduction(reduction))


def _encoded(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def _parsed(token: str) -> Any:
    try:
        decoded = base64.b64decode(token)
    except (binascii.Error, ValueError):
        raise InvalidParameter("Invalid page token, could not base64-decode") from None
    try:
        return json.loads(decoded)
    except (ValueError, RecursionError):
        raise InvalidParameter(f"Invalid page token, decoded value={decoded!r}") from None


def _offset(parsed: Any) -> int:
    offset = parsed.get("offset") if isinstance(parsed, dict) else None
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 < offset <= _MOST_OFFSET:
        raise InvalidParameter(f"Invalid page token, parsed value={parsed}")
    return offset
