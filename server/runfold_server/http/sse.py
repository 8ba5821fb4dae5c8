"""Server-sent events as a response, until the client disconnects or stops reading."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runfold_server.security.slots import Slot

SEND_TIMEOUT_SECONDS = 60.0
"""A connection whose client reads nothing for this long is closed."""
RETRY_MS = 1_000
"""How long a browser waits before it connects again."""
MEDIA_TYPE = "text/event-stream"
SendEvents = Callable[[bytes], Awaitable[None]]
"""Sends encoded events; raises TimeoutError if the client reads nothing."""


def encode_event(kind: str, place: str, data: bytes) -> bytes:
    """Return one event: its kind, the id from which a client resumes after it, and JSON."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), place.encode(), data)


class EventStream(Response):
    """A stream of events. `run` sends them and returns when the stream ends. `slot` is released then."""

    media_type = MEDIA_TYPE

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]

    async def run(self, send: SendEvents) -> None:
        """Send events until the stream ends."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._stream(scope, receive, send)
        finally:
            self._slot.release()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        sending = asyncio.ensure_future(self._send_all(send))
        disconnected = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((sending, disconnected), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, disconnected):
                task.cancel()
            await asyncio.gather(sending, disconnected, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        async def send_events(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send_events(f"retry: {RETRY_MS}\n\n".encode())
        await self.run(send_events)
        await send_events(b"", more=False)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
