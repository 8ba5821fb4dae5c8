"""The HTTP transport: one client per server, and the mapping of HTTP answers to transport errors."""

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx2

from runfold.settings import VERSION
from runfold_schemas.codec.batch import CONTENT_TYPE, join_items

from .base import (
    ExistingRun,
    Experiment,
    Misconfigured,
    ParentRun,
    RecordResult,
    Rejected,
    TooLargeForProxy,
    TryAgain,
)
from .experiments import find_or_create, find_parent, find_run

EVENTS_PATH = "/api/runfold/v1/events"
_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
_MISSING_RIGHT = frozenset({401, 403, 407})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOO_LARGE = 413
_BAD_RECORDS = frozenset({400, _TOO_LARGE, 422})
_MAX_RETRY_AFTER_SECONDS = 60.0


class HttpTransport:
    """Sends requests to one tracking server. A context manager; thread-safe, as its client is."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client = httpx2.Client(base_url=uri, timeout=_TIMEOUT, headers={"User-Agent": f"runfold/{VERSION}"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """See Transport."""
        self._client.close()

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """See Transport."""
        return find_or_create(self, name, timeout)

    def find_run(self, run_id: str, timeout: float) -> ExistingRun | None:
        """See Transport."""
        return find_run(self, run_id, timeout)

    def find_parent(self, run_id: str, timeout: float) -> ParentRun:
        """See Transport."""
        return find_parent(self, run_id, timeout)

    def append(self, items: Sequence[bytes], *, outcome: bool) -> list[RecordResult]:
        """See Transport."""
        try:
            answer = self.request(
                "POST",
                EVENTS_PATH,
                params={"wait": "outcome" if outcome else "append"},
                content=join_items(items),
                headers={"Content-Type": CONTENT_TYPE},
            )
        except Rejected as error:
            if error.status in _BAD_RECORDS:
                raise
            # Such as 404: the server has no such endpoint, which does not condemn the records.
            raise Misconfigured(str(error)) from error
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != len(items) or not all(isinstance(r, dict) for r in results):
            raise TryAgain(f"{self.uri} does not answer as a Runfold server does")
        return [RecordResult(*(str(r.get(name) or "") for name in ("outcome", "code", "message"))) for r in results]

    def request(self, method: str, path: str, *, timeout: float | None = None, **options: Any) -> dict[str, Any]:
        """Return the JSON object of a successful answer. Raises TransportError with the server's own message."""
        if timeout is not None:
            options["timeout"] = httpx2.Timeout(timeout)
        try:
            response = self._client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise TryAgain(f"{self.uri} does not answer ({type(error).__name__}: {error})") from error
        except RuntimeError as error:
            # Another thread closed the client.
            raise TryAgain(str(error)) from error
        body = _json_object(response)
        if response.is_success:
            if body is None:
                raise TryAgain(f"{self.uri} does not answer as a Runfold server does")
            return body
        status = response.status_code
        message = f"{self.uri} answered {status}: {_message(body or {}) or response.reason_phrase}"
        if status in _RETRIED:
            raise TryAgain(message, _retry_after(response.headers.get("Retry-After")), answered=True)
        # The error page of a proxy, or of another program at this address, is no verdict on the request.
        from_runfold = body is not None and ("error_code" in body or "results" in body)
        if not from_runfold and status == _TOO_LARGE:
            raise TooLargeForProxy(message)
        if not from_runfold or status in _MISSING_RIGHT:
            raise Misconfigured(message)
        raise Rejected(message, str((body or {}).get("error_code") or ""), status)


def _json_object(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        body = json.loads(response.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _message(body: dict[str, Any]) -> str:
    """Return the message of the whole answer, or else of the first result that has one."""
    results = body.get("results")
    parts = [body, *(results if isinstance(results, list) else [])]
    return next((str(part["message"]) for part in parts if isinstance(part, dict) and part.get("message")), "")


def _retry_after(text: str | None) -> float | None:
    try:
        return min(max(float(text or ""), 0.0), _MAX_RETRY_AFTER_SECONDS)
    except ValueError:
        return None
