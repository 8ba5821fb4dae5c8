"""Reading a request's body within a bound."""

from starlette.requests import Request

from runfold_server.core.errors import TooLarge


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
