"""Rules for requests of browsers: no names that DNS rebinding leads here, no writes from other origins.

Pure rules over the Host and Origin headers. Clients other than browsers send no Origin and pass.
"""

import fnmatch
import ipaddress
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = ("localhost", "*.localhost")
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/32", "::1/128", "fc00::/7")
)
"""MLflow's ranges (`mlflow.server.security_utils` 3.17.2) as addresses. Its patterns allow `10.evil.example`."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Which Host and Origin headers are allowed.

    `hosts` are names or addresses of this server beside loopback and private addresses, with `*` as a wildcard and an
    optional port. `origins` are other origins whose pages may write, such as `https://notebooks.example`.
    """

    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def allows_host(self, host: str, server: str = "") -> bool:
        """Return whether a request with this Host header is allowed. `server` is the address that it reached."""
        name = _name(host)
        if name is None:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return any(fnmatch.fnmatchcase(name, known) for known in _LOOPBACK_NAMES) or self._is_listed(host, name)
        return name == server or any(address in network for network in _PRIVATE) or self._is_listed(host, name)

    def allows_origin(self, origin: str, host: str) -> bool:
        """Return whether a page of this origin may write through a request with this Host header."""
        if any(fnmatch.fnmatchcase(origin.lower(), known.lower().rstrip("/")) for known in self.origins):
            return True
        scheme, _, rest = origin.partition("://")
        if scheme.lower() not in ("http", "https") or not rest:
            return False
        name = _name(rest)
        # A proxy may change the Host header. The page's own name is listed in that case.
        return name is not None and (_with_port(rest, scheme) in _same(host) or self._is_listed(rest, name))

    def _is_listed(self, host: str, name: str) -> bool:
        return any(
            fnmatch.fnmatchcase(name, known) or fnmatch.fnmatchcase(host.lower(), known)
            for known in (entry.lower() for entry in self.hosts)
        )


def _name(host: str) -> str | None:
    """Return the name or address of a Host header in lower case; None if it is malformed."""
    try:
        parsed = urllib.parse.urlsplit(f"//{host}")
        _ = parsed.port
    except ValueError:
        return None
    if parsed.netloc != host or "@" in host or not parsed.hostname:
        return None
    return parsed.hostname.rstrip(".")


def _with_port(host: str, scheme: str) -> str:
    default = "443" if scheme.lower() == "https" else "80"
    return host.lower() if urllib.parse.urlsplit(f"//{host}").port else f"{host.lower()}:{default}"


def _same(host: str) -> tuple[str, ...]:
    """Return the Host header with its port; without one, with those of both schemes, since a proxy may end TLS."""
    return (_with_port(host, "http"), _with_port(host, "https"))
