"""Errors of reading and writing the log.

RunfoldError
├── LogUnavailable     Kafka does not answer or reports an error. An append without an answer may still take effect
│   └── Backpressure   nothing was sent: too much is waiting already
├── OffsetNotHeld      the log no longer holds the offset to read, or does not hold it yet
├── LogNotCreated         the namespace has no log yet: `runfold topics create`
└── LogMismatch        the log exists, but not as the settings say
"""

from runfold_schemas.errors import RunfoldError


class LogUnavailable(RunfoldError):
    """Kafka can't be reached or reports an error. A write is not acknowledged and may still take effect.

    `retry_after` is in seconds. With `producer_lost` only a new producer can write again.
    """

    def __init__(self, message: str, retry_after: float = 1.0, *, producer_lost: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.producer_lost = producer_lost

    @property
    def reason(self) -> str:
        """The message without the cluster's address: that of Kafka's own error, where there is one."""
        return str(self.__cause__ or self)


class Backpressure(LogUnavailable):
    """More is waiting for Kafka than the bound allows; this append was not sent."""


class OffsetNotHeld(RunfoldError):
    """Retention deleted the offset, the topic was cut or created again, or the log is still shorter."""


class LogNotCreated(RunfoldError):
    """The namespace's topics or their genesis records are missing; run `runfold topics create`."""


class LogMismatch(RunfoldError):
    """The topics differ from the settings; the message says in what and what to do."""
