"""The HTTP side of the SDK: one client per server, answers sorted into done, try again, and never."""

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx2

from runfold.settings import VERSION
from runfold_schemas.codec.batch import CONTENT_TYPE, join_items

from .base import Experiment, KnownRun, Never, Parent, Result, TryAgain
from .experiments import find_or_create, find_parent, find_run

EVENTS_PATH = "/api/runfold/v1/events"
_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
_RIGHTS = frozenset({401, 403, 407})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOO_LARGE = 413
_BAD_RECORDS = frozenset({400, _TOO_LARGE, 422})
_MOST_RETRY_AFTER = 60.0


class HttpTransport:
    """Requests to one tracking server. A context manager; thread-safe, as its client is."""

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
        """Close the connections; a request under way fails with TryAgain."""
        self._client.close()

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """See Transport.find_experiment."""
        return find_or_create(self, name, timeout)

    def find_run(self, run_id: str, timeout: float) -> KnownRun | None:
        """See Transport.find_run."""
        return find_run(self, run_id, timeout)

    def find_parent(self, run_id: str, timeout: float) -> Parent:
        """See Transport.find_parent."""
        return find_parent(self, run_id, timeout)

    def append(self, items: Sequence[bytes], *, outcome: bool) -> list[Result]:
        """See Transport.append."""
        answer = self.request(
            "POST",
            EVENTS_PATH,
            params={"wait": "outcome" if outcome else "append"},
            content=join_items(items),
            headers={"Content-Type": CONTENT_TYPE},
        )
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != len(items) or not all(isinstance(r, dict) for r in results):
            raise TryAgain(f"{self.uri} does not answer as a Runfold server does")
        return [Result(*(str(r.get(name) or "") for name in ("outcome", "code", "message"))) for r in results]

    def request(self, method: str, path: str, *, timeout: float | None = None, **options: Any) -> dict[str, Any]:
        """The JSON object of a successful answer. Raises TryAgain or Never; both name the server and what it said."""
        if timeout is not None:
            options["timeout"] = httpx2.Timeout(timeout)
        try:
            response = self._client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise TryAgain(f"{self.uri} does not answer ({type(error).__name__}: {error})") from error
        except RuntimeError as error:
            # The client was closed meanwhile.
            raise TryAgain(str(error)) from error
        body = _json(response)
        if response.is_success:
            if body is None:
                raise TryAgain(f"{self.uri} does not answer as a Runfold server does")
            return body
        message = f"{self.uri} answered {response.status_code}: {_message(body or {}) or response.reason_phrase}"
        if response.status_code in _RETRIED:
            raise TryAgain(message, _retry_after(response.headers.get("Retry-After")), answered=True)
        # A proxy's page, or another program at this address, says nothing about the records; but that they are too many for it.
        ours = body is not None and ("error_code" in body or "results" in body)
        about_records = response.status_code in _BAD_RECORDS and (ours or response.status_code == _TOO_LARGE)
        code = str((body or {}).get("error_code") or "")
        raise Never(
            message,
            code,
            about_records=about_records,
            on_the_way=about_records and not ours,
            may_pass=not ours or response.status_code in _RIGHTS,
        )


def _json(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        body = json.loads(response.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _message(body: dict[str, Any]) -> str:
    """Why, as the answer as a whole or the first of its results says."""
    results = body.get("results")
    said = [body, *(results if isinstance(results, list) else [])]
    return next((str(part["message"]) for part in said if isinstance(part, dict) and part.get("message")), "")


def _retry_after(text: str | None) -> float | None:
    try:
        return min(max(float(text or ""), 0.0), _MOST_RETRY_AFTER)
    except ValueError:
        return None
