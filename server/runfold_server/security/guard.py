"""ASGI middleware that denies requests by their headers, and sets security headers for browsers."""

from functools import lru_cache

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runfold_server.core.errors import ApiError, PermissionDenied

from .callers import SAFE_METHODS, Callers

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/version"})
"""Paths served under any Host header, as MLflow does: orchestrators use names of their own."""

_BROWSER_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CACHED_HOSTS, _CACHED_CHARS = 256, 262
"""Number of Host headers whose decision is cached, and their most characters: 255 of a name, and a port."""
_log = structlog.get_logger(__name__)


class Guard:
    """Wraps an application, which denied requests never reach."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self._app, self._callers = app, callers
        self._known_host = lru_cache(_CACHED_HOSTS)(callers.allows_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                names = {name for name, _ in given}
                message["headers"] = [*given, *(header for header in _BROWSER_HEADERS if header[0] not in names)]
            await send(message)

        denial = self._denial(scope)
        if denial is None:
            await self._app(scope, receive, send_with_headers)
            return
        _log.warning("caller_denied", path=scope["path"][:200], method=scope["method"], reason=denial.message)
        answer = Response(denial.body(), denial.status, denial.headers(), "application/json")
        await answer(scope, receive, send_with_headers)

    def _denial(self, scope: Scope) -> ApiError | None:
        # Every request comes here. Starlette's objects for headers would cost more than all the rest.
        hosts, origin = _host_and_origin(scope)
        # HTTP/1.0 has no Host header; browsers always send one.
        host = hosts[0] if hosts else None
        if host is None or scope["path"] in OPEN_PATHS:
            pass
        elif len(hosts) > 1 or not self._allows_host(host, _address(scope)):
            return PermissionDenied(
                f"Invalid Host header {host[:100]!r} - possible DNS rebinding attack detected. "
                "If this server is reached under that name, add it to RUNFOLD_ALLOWED_HOSTS."
            )
        writes = scope["method"] not in SAFE_METHODS
        if writes and origin is not None and not self._callers.allows_origin(origin, host or ""):
            return PermissionDenied(
                f"Cross-origin request blocked: a page of {origin[:100]!r} may not change anything here. "
                "If it should, add its origin to RUNFOLD_ALLOWED_ORIGINS."
            )
        return None

    def _allows_host(self, host: str, server: str) -> bool:
        allows = self._known_host if len(host) <= _CACHED_CHARS else self._callers.allows_host
        return allows(host, server)


def _host_and_origin(scope: Scope) -> tuple[list[str], str | None]:
    hosts: list[str] = []
    origin = None
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        elif name == b"origin" and origin is None:
            origin = value.decode("latin-1")
    return hosts, origin


def _address(scope: Scope) -> str:
    server = scope.get("server")
    return server[0] if server else ""
