"""Server-sent events as an answer: told until the client goes away, or takes nothing any more."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runfold_server.security.admission import Slot

SEND_TIMEOUT = 60.0
"""Seconds after which a connection that takes nothing is given up."""
RETRY_MS = 1_000
MEDIA_TYPE = "text/event-stream"
SendEvents = Callable[[bytes], Awaitable[None]]
"""Sends events; raises TimeoutError if the connection takes nothing."""


def encode_event(kind: str, place: str, data: bytes) -> bytes:
    """One event: what it is, the id with which a client goes on behind it, and JSON."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), place.encode(), data)


class EventStream(Response):
    """`tell` says one event after the other, and returns when the stream is to end."""

    media_type = MEDIA_TYPE

    def __init__(self, place: Slot) -> None:
        self._place = place
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]

    async def run(self, send: SendEvents) -> None:
        """SendEvents what there is to say."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._stream(scope, receive, send)
        finally:
            self._place.release()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        sending = asyncio.ensure_future(self._send_all(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        async def send_events(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(SEND_TIMEOUT):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        async with asyncio.timeout(SEND_TIMEOUT):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send_events(f"retry: {RETRY_MS}\n\n".encode())
        await self.run(send_events)
        await send_events(b"", more=False)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
