"""Posts a delivery to its receiver, signed like MLflow's (`mlflow.webhooks.delivery` 3.17.2).

Only public addresses are reached, unless the policy allows others.
"""

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

from .delivery_policy import DeliveryPolicy

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""Everything assigned to the public IPv6 Internet. The rest of the address space has other uses, or none yet."""
_DENIED_V6 = (
    ipaddress.IPv6Network("2001::/32"),  # Teredo
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_DENIED_V4 = (ipaddress.IPv4Network("192.88.99.0/24"),)
"""Relays of 6to4: the address behind one was not checked."""
MAX_BODY_BYTES = 2_000
"""Part of a response that is kept, to show operators an error message."""


class AddressBlocked(OSError):
    """The address has a scheme that is not allowed, or is not public."""

    # One text for all addresses of a name: aiohttp raises the first of several errors with the same text unchanged.
    def __str__(self) -> str:
        return "not an address that webhooks may reach"


@dataclass(frozen=True, slots=True)
class ReceiverResponse:
    """A receiver's response. `retry_after`: its header of that name, in seconds, or 0."""

    status: int
    body: str
    retry_after: float


def signature(secret: str, delivery_id: str, timestamp: str, body: str) -> str:
    """Return `v1,` and the base64 HMAC-SHA256 of delivery id, timestamp and body."""
    signed = f"{delivery_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def is_public(address: str) -> bool:
    """Return whether an IP address is public."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = _embedded(ip)
        if embedded is None:
            return ip.is_global and ip in _UNICAST and not any(ip in network for network in _DENIED_V6)
        ip = embedded
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _DENIED_V4)


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address behind a mapped address or one with the well-known NAT64 prefix; None for others."""
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped


def public_socket(found: AddrInfoType) -> socket.socket:
    """Open a socket for exactly this address; AddressBlocked if it is not public.

    aiohttp calls this with the address that it then connects to. So it does not matter how a name was spelled, parsed
    or resolved, or what a second look-up would answer.
    """
    family, kind, protocol, _, address = found
    if not is_public(str(address[0])):
        raise AddressBlocked
    return socket.socket(family, kind, protocol)


class Sender:
    """Posts deliveries. An async context manager; one per process."""

    def __init__(self, policy: DeliveryPolicy) -> None:
        self._policy = policy

    async def __aenter__(self) -> "Sender":
        connector = aiohttp.TCPConnector(
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=None if self._policy.private else public_socket,
            force_close=True,
            use_dns_cache=False,
        )
        # With a proxy from the environment, the proxy's address would be checked instead of the receiver's.
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=self._policy.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._session.close()

    async def send(self, url: str, delivery_id: str, body: str, secret: str | None) -> ReceiverResponse:
        """Post a delivery. Raises AddressBlocked, or aiohttp's errors, if there is no response."""
        target = URL(url)
        if target.scheme not in self._policy.schemes:
            raise AddressBlocked
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-MLflow-Delivery-Id": delivery_id,
            "X-MLflow-Timestamp": timestamp,
        }
        if secret:
            headers["X-MLflow-Signature"] = signature(secret, delivery_id, timestamp, body)
        async with self._session.post(target, data=body.encode(), headers=headers, allow_redirects=False) as response:
            text = (await response.content.read(MAX_BODY_BYTES)).decode(errors="replace").replace("\x00", "")
            return ReceiverResponse(response.status, text, _seconds(response.headers.get("Retry-After", "")))


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0.0
