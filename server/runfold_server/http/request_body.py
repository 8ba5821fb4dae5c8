"""The body of a request: read within a limit, and its JSON object."""

from typing import Any

import msgspec
from starlette.requests import Request

from runfold_server.core.errors import BadBody, InvalidParameter, TooLarge

from .field_values import type_name
from .large_json import refuse_many


async def read_body(request: Request, most: int) -> bytes:
    """Return the body; TooLarge as soon as more than `most` bytes are announced or received."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise TooLarge(f"The request body has {announced} bytes; at most {most} are allowed.")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLarge(f"The request body is larger than {most} bytes.")
        parts.append(part)
    return b"".join(parts)


def read_json(body: bytes, content_type: str | None) -> dict[str, Any]:
    """Return the JSON object of a body; an empty body is an empty object.

    BadBody if it is not one, TooLarge for too many values.
    """
    check_content_type(content_type)
    if not body.strip():
        return {}
    try:
        value = _decode(body)
        # Older MLflow clients encode their JSON twice.
        if isinstance(value, str):
            value = _decode(value.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise BadBody(f"The request body is not valid JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadBody(f"The request body must be a JSON object, not {type_name(value)}.")
    return value


def _decode(body: bytes) -> Any:
    refuse_many(body)
    return msgspec.json.decode(body)


def check_content_type(content_type: str | None) -> None:
    """Raise InvalidParameter for a type other than `application/json`, the only one that MLflow accepts."""
    if content_type is None:
        raise InvalidParameter("Bad Request. Content-Type header is missing.")
    if content_type.split(";")[0].strip().lower() != "application/json":
        raise InvalidParameter("Bad Request. Content-Type must be one of ['application/json'].")
