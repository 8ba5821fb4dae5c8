"""ASGI middleware that refuses callers, and sets the headers that tell browsers what they may do with an answer."""

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runfold_server.core.errors import ApiError, PermissionDenied

from .callers import SAFE_METHODS, Callers

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/version"})
"""Answered whatever the Host header is, as MLflow does: orchestrators ask them under names of their own."""

_BROWSER_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-resource-policy": "same-origin",
}
_log = structlog.get_logger(__name__)


class Guard:
    """Wraps an application. Whatever is refused here has not reached it."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self._app, self._callers = app, callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _BROWSER_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        denial = self._denial(scope)
        if denial is None:
            await self._app(scope, receive, send_with_headers)
            return
        _log.warning("caller_denied", path=scope["path"][:200], method=scope["method"], reason=denial.message)
        answer = Response(denial.body(), denial.status, denial.headers(), "application/json")
        await answer(scope, receive, send_with_headers)

    def _denial(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        # HTTP/1.0 knows no Host; browsers always send one.
        host, origin = headers.get("host"), headers.get("origin")
        if host is None or scope["path"] in OPEN_PATHS:
            pass
        elif len(headers.getlist("host")) > 1 or not self._callers.allows_host(host, _address(scope)):
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


def _address(scope: Scope) -> str:
    server = scope.get("server")
    return server[0] if server else ""
