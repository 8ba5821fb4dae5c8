"""Keep web pages of strangers out: names that lead here by DNS rebinding, and writes from pages of another origin.

Pure rules over two headers, as browsers send them. Clients that are no browser send no Origin, and pass.
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
"""MLflow's ranges (`mlflow.server.security_utils` 3.17.2), compared as addresses: its patterns take `10.evil.example`, too."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Which Host and Origin headers are taken.

    `hosts` are names or addresses that the server is reached at beside loopback and private addresses, with `*` as a wildcard and a
    port or none; `origins` are origins whose pages may write although they are not this server's, such as `https://notebooks.example`.
    """

    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def allows_host(self, host: str, server: str = "") -> bool:
        """Whether a request with this Host header may be answered; `server` is the address that it was sent to."""
        name = _name(host)
        if name is None:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return any(fnmatch.fnmatchcase(name, known) for known in _LOOPBACK_NAMES) or self._is_listed(host, name)
        return name == server or any(address in network for network in _PRIVATE) or self._is_listed(host, name)

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may write through a request with this Host header."""
        if any(fnmatch.fnmatchcase(origin.lower(), known.lower().rstrip("/")) for known in self.origins):
            return True
        scheme, _, rest = origin.partition("://")
        if scheme.lower() not in ("http", "https") or not rest:
            return False
        name = _name(rest)
        # Behind a proxy the Host header may be another one than the page's: then the page's own name is listed.
        return name is not None and (_with_port(rest, scheme) in _same(host) or self._is_listed(rest, name))

    def _is_listed(self, host: str, name: str) -> bool:
        return any(
            fnmatch.fnmatchcase(name, known) or fnmatch.fnmatchcase(host.lower(), known)
            for known in (entry.lower() for entry in self.hosts)
        )


def _name(host: str) -> str | None:
    """The name or address of a Host header, in small letters; None if it is malformed."""
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
    """The forms of this Host header with a port. Without one, a proxy before us decides whether it is 80 or 443."""
    return (_with_port(host, "http"), _with_port(host, "https"))
