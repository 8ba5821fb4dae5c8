"""Answers that are read in full before they are sent: how many there may be, what they may hold, and for how long."""

import asyncio
import threading
from collections.abc import Iterable
from tempfile import SpooledTemporaryFile
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from runfold_server.core.errors import Unavailable
from runfold_server.security.slots import Slot, Slots

MOST_ANSWERS, MOST_OF_ONE = 8, 4
"""Answers of one server process that are being read or sent, and those of one client."""
READ_AT_ONCE = 2
IN_MEMORY = 8 * 1024 * 1024
"""Bytes of an answer beyond which it waits on disk."""
MOST_BYTES = 4 * 1024 * 1024 * 1024
"""Bytes of all answers together."""
SEND_SECONDS, SEND_RATE = 60.0, 64 * 1024
"""A client has this long for an answer, and a second more for each so many bytes of it."""
_CHUNK = 1024 * 1024


class Exports:
    """The answers of one server process."""

    def __init__(self) -> None:
        self.slots = Slots("answers of histories", MOST_ANSWERS, MOST_OF_ONE)
        self.reading = asyncio.Semaphore(READ_AT_ONCE)
        self._lock = threading.Lock()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of all answers now."""
        return self._held

    def hold(self, size: int) -> None:
        """Count so many bytes more, or fewer. Unavailable if they would be too many."""
        with self._lock:
            if size > 0 and self._held + size > MOST_BYTES:
                raise Unavailable(
                    "This server holds as many bytes of answers as it may; ask for fewer points, or later.", 5.0
                )
            self._held += size


class Spool:
    """One answer, in memory while it is small. May be used from any thread, by one at a time."""

    def __init__(self, exports: Exports) -> None:
        self._exports = exports
        self._file: Any = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self.size = 0

    def write(self, parts: Iterable[bytes]) -> None:
        """Append. Unavailable if all answers together have become too large."""
        for part in parts:
            self._exports.hold(len(part))
            self.size += len(part)
            self._file.write(part)

    def rewind(self) -> None:
        """Go to the beginning, to read."""
        self._file.seek(0)

    def read(self) -> bytes:
        """The next piece; nothing at the end."""
        return bytes(self._file.read(_CHUNK))

    def close(self) -> None:
        """Forget all of it."""
        if not self._file.closed:
            self._file.close()
            self._exports.hold(-self.size)


class Export(StreamingResponse):
    """Sends a spool, then forgets it and gives its place back: also when the client takes too long."""

    def __init__(self, front: bytes, spool: Spool, place: Slot, media_type: str) -> None:
        self._spool, self._place = spool, place
        size = len(front) + spool.size
        self._seconds = SEND_SECONDS + size / SEND_RATE
        super().__init__(self._pieces(front), headers={"content-length": str(size)}, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            pass  # the connection is closed, since the answer is not whole
        finally:
            try:
                # Closing a large file takes long, too.
                await asyncio.shield(asyncio.to_thread(self._spool.close))
            finally:
                self._place.release()

    async def _pieces(self, front: bytes) -> Any:
        yield front
        await asyncio.to_thread(self._spool.rewind)
        while data := await asyncio.to_thread(self._spool.read):
            yield data
