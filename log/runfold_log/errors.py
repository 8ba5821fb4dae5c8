"""Errors of reading and writing the log.

RunfoldError
├── LogUnavailable     an append was not acknowledged; it may still take effect. Retry after `retry_after` seconds
│   └── Backpressure   nothing was sent: too much is waiting already
├── LogNotBorn         the namespace has no log yet: `runfold topics create`
└── LogMismatch        the log exists, but not as the settings say
"""

from runfold_schemas.errors import RunfoldError


class LogUnavailable(RunfoldError):
    """Kafka did not acknowledge in time: not acknowledged, may still take effect. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Backpressure(LogUnavailable):
    """More is waiting for Kafka than the bound allows; this append was not sent."""


class LogNotBorn(RunfoldError):
    """The namespace's topics or their genesis records are missing; run `runfold topics create`."""


class LogMismatch(RunfoldError):
    """The topics differ from the settings; the message says in what and what to do."""
