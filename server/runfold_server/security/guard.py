"""ASGI middleware that refuses callers, and sets the headers that tell browsers what they may do with an answer."""

from functools import lru_cache

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runfold_server.core.errors import ApiError, PermissionDenied

from .callers import SAFE_METHODS, Callers

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/version"})
"""Answered whatever the Host header is, as MLflow does: orchestrators ask them under names of their own."""

_BROWSER_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HOSTS_KEPT, _KEPT_CHARS = 256, 262
"""How many Host headers are remembered with what was decided, and their most characters: a name's 255, and a port."""
_log = structlog.get_logger(__name__)


class Guard:
    """Wraps an application. Whatever is refused here has not reached it."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self._app, self._callers = app, callers
        self._known_host = lru_cache(_HOSTS_KEPT)(callers.allows_host)

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
        # Of every request, so by hand: Starlette's objects for headers cost more than the rest of this.
        hosts, origin = _host_and_origin(scope)
        # HTTP/1.0 knows no Host; browsers always send one.
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
        takes = self._known_host if len(host) <= _KEPT_CHARS else self._callers.allows_host
        return takes(host, server)


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
