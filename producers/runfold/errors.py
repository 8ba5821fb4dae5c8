"""Errors of the producers.

RunfoldError
├── LogUnavailable     an append was not acknowledged; it may still take effect. Retry after `retry_after` seconds
│   └── Backpressure   nothing was sent: too much is waiting already
├── LogNotBorn         the namespace has no log yet: `runfold topics create`
├── LogMismatch        the log exists, but not as the settings say
└── SdkError           errors of `import runfold`
    ├── NotConnected   the tracking server can't be reached
    └── ServerRefused  the server refused what a run asked for
"""


class RunfoldError(Exception):
    """Root of all errors that `import runfold` and the log's writers raise."""


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


class SdkError(RunfoldError):
    """Root of the errors that a training script can meet."""


class NotConnected(SdkError):
    """The tracking server did not answer; the message names the address and the setting it came from."""


class ServerRefused(SdkError):
    """The server refused something a run asked for; the message is the server's."""
