"""X-Forwarded-For: a client can't choose the address it is counted under, unless it is a proxy from the settings."""

import asyncio
import urllib.parse
from collections import Counter
from collections.abc import Sequence

import pytest

from runfold_server.streams.events import feed
from tests.support.installations.installation import Installation, Program

MOST = feed.MAX_STREAMS_PER_CLIENT


async def statuses(server: Program, forwarded: Sequence[str]) -> Counter[int]:
    """Open an event stream under each of these headers, all at the same time: how many were answered what."""
    address = urllib.parse.urlsplit(server.url)
    writers: list[asyncio.StreamWriter] = []

    async def one(name: str) -> int:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writers.append(writer)
        head = (
            f"GET /api/runfold/v1/events:stream HTTP/1.1\r\nhost: {address.netloc}\r\nx-forwarded-for: {name}\r\n\r\n"
        )
        writer.write(head.encode())
        return int((await asyncio.wait_for(reader.readuntil(b"\r\n"), 60)).split()[1])

    try:
        return Counter(await asyncio.gather(*map(one, forwarded)))
    finally:
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("settings", [{}, {"trusted_proxies": "10.0.0.0/8"}])
async def test_a_client_can_not_say_that_it_is_another(installation: Installation, settings: dict[str, str]) -> None:
    server = installation.server(**settings)
    found = await statuses(server, [f"192.0.2.{n}" for n in range(MOST + 20)])
    assert found == {200: MOST, 429: 20}


async def test_a_listed_proxy_says_whom_it_forwards_for(installation: Installation) -> None:
    server = installation.server(trusted_proxies="10.0.0.0/8,127.0.0.1")
    # The last address is the one that our proxy saw; what stands before it came from the client.
    ones = [f"203.0.113.{n % 200}, 192.0.2.7" for n in range(MOST + 5)]
    others = [f"192.0.2.7, 198.51.100.{n}" for n in range(10)]
    assert await statuses(server, ones + others) == {200: MOST + 10, 429: 5}
