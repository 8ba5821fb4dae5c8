"""How a native read says what it waits for."""

from starlette.requests import Request

from .errors import InvalidParameter
from .reads import Consistency
from .requests import Field, Kind


def consistency_field(default: Consistency) -> Field:
    """The parameter as a read's table of parameters has it."""
    return Field("consistency", Kind.CHOICE, default=str(default), choices=tuple(str(one) for one in Consistency))


def consistency(request: Request, default: Consistency) -> Consistency:
    """What the query string asks for; InvalidParameter if there is no such."""
    text = request.query_params.get("consistency", default)
    try:
        return Consistency(text)
    except ValueError:
        raise InvalidParameter(
            f"Invalid value {text[:40]!r} for parameter 'consistency' supplied: {' or '.join(Consistency)}."
        ) from None
