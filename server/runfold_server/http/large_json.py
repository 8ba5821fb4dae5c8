"""Large JSON, in bodies and in answers: counted before it is decoded, and worked on beside the event loop.

One call of the decoder or the encoder holds the interpreter until it is done, in whatever thread it runs. So what one
call gets is bounded, and a single thread makes the calls, between which the event loop comes to its turn.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runfold_server.core.errors import TooLarge, Unavailable

BODY_BYTES = 256 * 1024
"""A body beyond this is large."""
MOST_VALUES = 100_000
"""Values in one body, as many as 10,000 parts of an upload or tags have, and more."""
ITEMS = 1_000
"""An answer that has a list or an object of more items is large."""
_AT_ONCE = 500
_PIECE_BYTES = 128 * 1024
_DEPTH = 3
_SCANNED = 256 * 1024
"""Even, so that a piece of backslashes alone has whole pairs of them."""
MOST_UNSENT = 1024 * 1024 * 1024
"""Bytes of large answers that wait for their clients, of one server process."""
SEND_SECONDS, SEND_RATE = 60.0, 64 * 1024
"""A client has this long for an answer, and a second more for each so many bytes of it."""
_beside = ThreadPoolExecutor(1, "large-json")
T = TypeVar("T")


async def beside(call: Callable[..., T], *args: Any) -> T:
    """The call's result, from the thread for what is large."""
    return await asyncio.get_running_loop().run_in_executor(_beside, call, *args)


def refuse_many(body: bytes) -> None:
    """TooLarge for a large body of more values than are taken, whatever they mean."""
    if len(body) <= BODY_BYTES or _most_values(body) <= MOST_VALUES:
        return
    # It has no more than that, but fewer if its texts only look as if there were any.
    count, at, inside = 0, 0, False
    while at < len(body):
        piece = body[at : at + _SCANNED]
        piece = piece.rstrip(b"\\") or piece  # what is escaped is in the piece of its backslash
        at += len(piece)
        # Without escapes, every second part is no text. What is no JSON may be counted wrongly, but a decoder ends
        # there, too.
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        count += _most_values(b"".join(parts[inside::2]))
        if count > MOST_VALUES:
            raise TooLarge(f"The request body has more than {MOST_VALUES} values; send them in several requests.")
        inside ^= len(parts) % 2 == 0


def _most_values(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def is_large(answer: Any, depth: int = _DEPTH) -> bool:
    """Whether a list or an object in the first levels of an answer has many items."""
    if isinstance(answer, dict):
        return len(answer) > ITEMS or (depth > 0 and any(is_large(one, depth - 1) for one in answer.values()))
    return isinstance(answer, list) and len(answer) > ITEMS


def pieces(answer: Any) -> list[bytes]:
    """The answer's JSON in pieces. No call of the encoder takes long."""
    found, waiting, size = [], [], 0
    for part in _parts(answer, _DEPTH):
        waiting.append(part)
        size += len(part)
        if size >= _PIECE_BYTES:
            found.append(b"".join(waiting))
            waiting, size = [], 0
    return [*found, b"".join(waiting)] if waiting else found


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    if isinstance(value, list) and len(value) > _AT_ONCE:
        slices = (value[at : at + _AT_ONCE] for at in range(0, len(value), _AT_ONCE))
        yield from _joined(b"[", slices, b"]")
    elif isinstance(value, dict) and len(value) > _AT_ONCE:
        items = iter(value.items())
        yield from _joined(b"{", iter(lambda: dict(islice(items, _AT_ONCE)), {}), b"}")
    elif isinstance(value, dict) and depth > 0 and value:
        for n, (name, own) in enumerate(value.items()):
            yield (b"," if n else b"{") + msgspec.json.encode(name) + b":"
            yield from _parts(own, depth - 1)
        yield b"}"
    else:
        yield msgspec.json.encode(value)


def _joined(start: bytes, some: Iterator[Any], end: bytes) -> Iterator[bytes]:
    for n, one in enumerate(some):
        yield (b"," if n else start) + msgspec.json.encode(one)[1:-1]
    yield end


class InPieces(Response):
    """An answer that is sent piece by piece, no faster than its client takes it, and forgotten when that takes too
    long.
    """

    media_type = "application/json"
    unsent = 0
    """Bytes of all of them that are being sent."""

    def __init__(self, parts: list[bytes], status: int = 200) -> None:
        self._parts, self._size = parts, sum(map(len, parts))
        if InPieces.unsent + self._size > MOST_UNSENT:
            raise Unavailable("This server holds as many bytes of answers as it may; ask for less, or later.", 5.0)
        super().__init__(None, status, {"content-length": str(self._size)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        InPieces.unsent += self._size
        try:
            async with asyncio.timeout(SEND_SECONDS + self._size / SEND_RATE):
                await self._send(send)
        except TimeoutError:
            pass  # the connection is closed, since the answer is not whole
        finally:
            InPieces.unsent -= self._size
            self._parts = []

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for n, part in enumerate(self._parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": n < len(self._parts)})
            await asyncio.sleep(0)  # a client that takes all at once holds up nobody
