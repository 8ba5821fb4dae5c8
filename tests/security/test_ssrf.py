"""A webhook reaches no address that is not public, however it is written; and its test says nothing of the worker's
network.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import httpx2
import pytest

from runfold_consumers.webhooks.deliverer import NO_ANSWER
from runfold_consumers.webhooks.delivery_policy import DeliveryPolicy
from runfold_consumers.webhooks.sender import AddressBlocked, Sender, is_public, public_socket
from tests.support.installations.server_pair import ServerPair

API = "/api/2.0/mlflow/webhooks"

NOT_PUBLIC = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.0.2.1",
    "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::808:808", "::ffff:127.0.0.1", "::ffff:0:7f00:1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "64:ff9b:1::7f00:1", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::",
    "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1",
    "localhost", "", "127.1",
)  # fmt: skip
PUBLIC = (
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
)

SPELLINGS = (
    "127.0.0.1", "127。0。0。1", "127\uff0e0\uff0e0\uff0e1", "127｡0｡0｡1", "①②⑦.⓪.⓪.①", "127.1", "127.0.1", "2130706433",
    "0x7f000001",
    "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "localhost", "LOCALHOST",
    "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54", "localhost.",
    "0.0.0.0", "0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::7f00:1]",
    "[fec0::1]", "[64:ff9b:1::7f00:1]", "[64:ff9b::7f00:1]", "192.88.99.1", "[2002:7f00:1::]", "[fe80::1%25lo]",
    "127.0.0.1%2f.example.org", "example.org@127.0.0.1", "127.0.0.1\\@example.org", "127.0.0.1#@example.org",
)  # fmt: skip


@dataclass
class Listener:
    """Counts what reaches it, over IPv4 and IPv6 on one port, and says what SSH says."""

    port: int = 0
    reached: list[str] = field(default_factory=list)


@pytest.fixture
def listener() -> Iterator[Listener]:
    own = Listener()
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        own.port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                own.reached.append(peer[0])
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield own
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_nobody_else_may_reach(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(AddressBlocked):
        public_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443)))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_anybody_may_reach(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_an_address_reaches_this_machine(listener: Listener, host: str) -> None:
    async with Sender(DeliveryPolicy(frozenset({"http", "https"}), timeout=5.0)) as sender:
        for scheme in ("http", "https"):
            with pytest.raises((OSError, ValueError, aiohttp.ClientError)):
                await sender.send(f"{scheme}://{host}:{listener.port}/", "id", "{}", None)
    assert listener.reached == []


async def test_what_counts_is_the_address_that_is_connected_to_not_what_was_looked_up_before(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name whose addresses change between two look-ups, and one with a public address beside a private one."""
    real = asyncio.BaseEventLoop.getaddrinfo
    answers = iter([["203.0.113.7", "127.0.0.1"], ["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"]])

    async def rebound(self: asyncio.BaseEventLoop, host: str, port: int, **options: int) -> object:
        if host != "rebound.example":
            return await real(self, host, port, **options)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (one, port, 0, 0))
            if ":" in one
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in next(answers)
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", rebound)
    async with Sender(DeliveryPolicy(frozenset({"http"}), timeout=3.0)) as sender:
        for _ in range(4):
            with pytest.raises((OSError, aiohttp.ClientError)):
                await sender.send(f"http://rebound.example:{listener.port}/", "id", "{}", None)
    assert listener.reached == []


async def test_redirects_are_not_followed(listener: Listener) -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        to = f"http://127.0.0.1:{listener.port}/"
        writer.write(f"HTTP/1.1 307 Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Sender(DeliveryPolicy(frozenset({"http"}), private=True, timeout=5.0)) as sender:
        assert (await sender.send(f"http://127.0.0.1:{port}/", "id", "{}", None)).status == 307
    assert listener.reached == []


def test_the_test_of_a_webhook_is_no_port_scanner(
    client: httpx2.Client, servers: ServerPair, listener: Listener
) -> None:
    """Whatever is at an address that gives no HTTP answer, and whatever it says, the answer is the same."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    told = set()
    urls = (
        f"http://127.0.0.1:{closed}/",
        f"http://127.0.0.1:{listener.port}/",
        "http://no-such-name.invalid/",
        "http://[::1%25nothing]/",
    )
    for url in urls:
        made = client.post(
            f"{API}",
            json={"name": "scan", "url": url, "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]},
        ).json()["webhook"]
        tried = client.post(f"{API}/{made['webhook_id']}/test", json={})
        told.add(tried.text)
        client.request("DELETE", f"{API}/{made['webhook_id']}")
    assert len(told) == 1
    assert NO_ANSWER in told.pop()
    assert len(listener.reached) == 1
    shown = client.get("/api/runfold/v1/webhooks/deliveries").text
    assert "SSH" not in shown
    assert "Connect" not in shown
