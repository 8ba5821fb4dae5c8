"""Choosing TCP ports: remembered ones where possible, free ones otherwise."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# Below the range from which Linux (32768) and others (49152) number outgoing connections: a port that is remembered
# there would often be taken, at the next start, by nothing but somebody's browser.
CHOICE = range(20_000, 32_000)
ATTEMPTS = 200


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on this port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a former life that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def choose(host: str, remembered: int | None, *, avoid: Collection[int] = ()) -> int:
    """The remembered port if it is free, else a random free one. Raises OSError if none of many is free."""
    if remembered is not None and remembered not in avoid and is_free(host, remembered):
        return remembered
    for port in random.sample(CHOICE, ATTEMPTS):
        if port not in avoid and is_free(host, port):
            return port
    raise OSError(f"none of {ATTEMPTS} ports tried on {host} is free")
