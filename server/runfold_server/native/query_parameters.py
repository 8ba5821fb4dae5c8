"""What native reads take in the query string beside their own fields: what they wait for, whole numbers, and pages."""

from starlette.requests import Request

from runfold_server.core.errors import InvalidParameter
from runfold_server.http.request_fields import Field, Kind
from runfold_server.reads.reader import Consistency


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


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number in the query string; InvalidParameter if it is none, or too large."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > most:
        raise InvalidParameter(
            f"Invalid value {text[:40]!r} for parameter '{name}' supplied: a whole number up to {most}."
        )
    return int(text)


def next_page(found: int, limit: int, offset: int) -> dict[str, int]:
    """What a list of which one more than `limit` was looked for says of its next page; nothing if there is none, or if none of it was asked for."""
    return {"next_offset": offset + limit} if found > limit > 0 else {}
