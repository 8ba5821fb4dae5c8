"""One POST to a receiver, signed as MLflow signs (`mlflow.webhooks.delivery` 3.17.2), to public addresses only unless told otherwise."""

import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
MOST_ANSWER = 2_000
"""Bytes that are kept of an answer."""


class Blocked(Exception):
    """The address is one that webhooks may not reach: of another scheme, or not public."""


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
        ip = _embedded(ip) or ip
    return ip.is_global and not ip.is_multicast


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, 6to4, Teredo or NAT64 address leads to."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


class _PublicOnly(AbstractResolver):
    """What a name resolves to is checked where it is used: a second look-up could answer otherwise."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = [one for one in await self._inner.resolve(host, port, family) if is_public(one["host"])]
        if not found:
            raise Blocked(f"{host} has no public address")
        return found

    async def close(self) -> None:
        await self._inner.close()


class Sender:
    """Posts. Use as an async context manager; one per process."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners

    async def __aenter__(self) -> "Sender":
        resolver = None if self._manners.private else _PublicOnly()
        connector = aiohttp.TCPConnector(resolver=resolver, force_close=True, use_dns_cache=False)
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
        parts = urlsplit(url)
        if parts.scheme not in self._manners.schemes:
            raise Blocked(f"scheme {parts.scheme!r}: allowed are {', '.join(sorted(self._manners.schemes))}")
        host = parts.hostname or ""
        if not self._manners.private and _is_address(host) and not is_public(host):
            raise Blocked(f"{host} is not a public address")
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-MLflow-Delivery-Id": delivery_id,
            "X-MLflow-Timestamp": timestamp,
        }
        if secret:
            headers["X-MLflow-Signature"] = signature(secret, delivery_id, timestamp, body)
        async with self._session.post(url, data=body.encode(), headers=headers, allow_redirects=False) as response:
            answer = (await response.content.read(MOST_ANSWER)).decode(errors="replace").replace("\x00", "")
            return Sent(response.status, answer, _seconds(response.headers.get("Retry-After", "")))


def _is_address(host: str) -> bool:
    """As aiohttp sees it: such hosts it dials without asking the resolver, also in spellings such as 127.1."""
    return ":" in host or host.replace(".", "").isdigit()


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0.0
