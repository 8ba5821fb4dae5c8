"""One POST to a receiver, signed as MLflow signs (`mlflow.webhooks.delivery` 3.17.2), to public addresses only unless told otherwise."""

import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohappyeyeballs import AddrInfoType
from yarl import URL

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that is assigned for the public IPv6 Internet; the rest of the address space is for other uses, or for none yet."""
_REFUSED_V6 = (
    ipaddress.IPv6Network("2001::/32"),  # Teredo
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_REFUSED_V4 = (ipaddress.IPv4Network("192.88.99.0/24"),)
"""Relays of 6to4: what they lead to is not what was checked."""
MOST_ANSWER = 2_000
"""Bytes that are kept of an answer."""


class Blocked(OSError):
    """The address is one that webhooks may not reach: of another scheme, or not public."""

    # One text for all of them: aiohttp raises the first of several errors of one text as it is.
    def __str__(self) -> str:
        return "not an address that webhooks may reach"


@dataclass(frozen=True, slots=True)
class Sent:
    """What the receiver answered. `retry_after`: what it asked for, in seconds."""

    status: int
    answer: str
    retry_after: float


@dataclass(frozen=True, slots=True)
class Manners:
    """How receivers are reached. `timeout` bounds a try, in seconds; `private` allows addresses that are not public."""

    schemes: frozenset[str] = frozenset({"https"})
    private: bool = False
    timeout: float = 10.0


def signature(secret: str, delivery_id: str, timestamp: str, body: str) -> str:
    """`v1,` and the HMAC-SHA256 of id, time and body in base64."""
    signed = f"{delivery_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody may reach."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = _embedded(ip)
        if embedded is None:
            return ip.is_global and ip in _UNICAST and not any(ip in network for network in _REFUSED_V6)
        ip = embedded
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _REFUSED_V4)


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped address, or one of the well-known NAT64 prefix, leads to."""
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped


def public_socket(found: AddrInfoType) -> socket.socket:
    """A socket for exactly this address; Blocked if it is not public.

    aiohttp calls this with what it connects the socket to. However a name was spelt, parsed or resolved, and whatever a second
    look-up would answer, there is no other way to a connection.
    """
    family, kind, protocol, _, address = found
    if not is_public(str(address[0])):
        raise Blocked
    return socket.socket(family, kind, protocol)


class Sender:
    """Posts. Use as an async context manager; one per process."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners

    async def __aenter__(self) -> "Sender":
        connector = aiohttp.TCPConnector(
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=None if self._manners.private else public_socket,
            force_close=True,
            use_dns_cache=False,
        )
        # A proxy of the environment would be the one whose address was checked.
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=self._manners.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._session.close()

    async def send(self, url: str, delivery_id: str, body: str, secret: str | None) -> Sent:
        """Post a delivery. Blocked, or what aiohttp raises, if there is no answer."""
        target = URL(url)
        if target.scheme not in self._manners.schemes:
            raise Blocked
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-MLflow-Delivery-Id": delivery_id,
            "X-MLflow-Timestamp": timestamp,
        }
        if secret:
            headers["X-MLflow-Signature"] = signature(secret, delivery_id, timestamp, body)
        async with self._session.post(target, data=body.encode(), headers=headers, allow_redirects=False) as response:
            answer = (await response.content.read(MOST_ANSWER)).decode(errors="replace").replace("\x00", "")
            return Sent(response.status, answer, _seconds(response.headers.get("Retry-After", "")))


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0.0
