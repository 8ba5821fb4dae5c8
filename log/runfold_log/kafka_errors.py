"""Translation of aiokafka's errors, which never leave this room."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
)

from .cluster import KafkaCluster
from .errors import LogUnavailable, OffsetNotHeld

_SILENT = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)


@contextmanager
def kafka_errors(kafka: KafkaCluster) -> Iterator[None]:
    """Turn aiokafka's errors into LogUnavailable, and an offset that the log does not hold into OffsetNotHeld."""
    try:
        yield
    except OffsetOutOfRangeError as error:
        raise OffsetNotHeld(f"the log does not hold the next offset: {error}") from error
    except KafkaError as error:
        raise unavailable(kafka, error) from error


def unavailable(kafka: KafkaCluster, error: KafkaError) -> LogUnavailable:
    """The LogUnavailable for an error of aiokafka. Raise it `from` that error."""
    what = " does not answer" if isinstance(error, _SILENT) else ""
    # aiokafka has no epoch bump: a producer that got a final error has lost its sequence numbers with the broker.
    return LogUnavailable(f"Kafka at {kafka}{what}: {error}", producer_lost=not error.retriable)
