"""Whether Postgres or Kafka answers a worker."""

import time

SILENCE_SECONDS = 6.0
"""A service that hangs fails no call.

Without an answer for this long, three times the interval of any call, it counts as unavailable.
"""


class ServiceHealth:
    """The last answer or error of one service."""

    def __init__(self, name: str, error: str | None = None) -> None:
        self._name, self._error = name, error
        self._answered_at = time.monotonic()

    def answered(self) -> None:
        """Record an answer."""
        self._error, self._answered_at = None, time.monotonic()

    def fail(self, error: str) -> bool:
        """Record an error; return whether it differs from the one before."""
        is_new = error != self._error
        self._error = error
        return is_new

    @property
    def problem(self) -> str | None:
        """Why the service can't be used, with its name; None if it answers."""
        if self._error is not None:
            return f"{self._name}: {self._error}"
        silent = time.monotonic() - self._answered_at
        return f"{self._name}: no answer for {silent:.0f} s" if silent > SILENCE_SECONDS else None
