"""A question for the supervisor: does GET answer 200?"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

READY_TIMEOUT = 5.0
"""Seconds that a program may take to say whether it is ready; its own look at the services is bounded by less."""


def answers_ok(
    host: str, port: int, path: str, tls: Callable[[], ssl.SSLContext] | None = None
) -> Callable[[], Awaitable[bool]]:
    """The question, to be asked again and again, over TLS with the context that `tls` makes for each.

    Written out, since it is asked thirty times a second while the programs start, and an HTTP library's client costs
    more than the programs' start does.
    """

    async def ask() -> bool:
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                reader, writer = await asyncio.open_connection(host, port, ssl=tls() if tls else None)
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: runfold\r\nConnection: close\r\n\r\n".encode())
                    return (await reader.readline()).split()[1:2] == [b"200"]
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    return ask
