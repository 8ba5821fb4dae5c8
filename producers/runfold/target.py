"""From a tracking URI to what carries records there."""

from collections.abc import Callable

from .address import is_web, kafka_target
from .http import HttpTransport
from .transport import Transport


def opener(uri: str) -> Callable[[], Transport]:
    """How to open the transport for a URI, without opening it; SdkError says what a URI may be."""
    if is_web(uri):
        return lambda: HttpTransport(uri)
    target = kafka_target(uri)

    def open_kafka() -> Transport:
        from .direct import KafkaTransport

        return KafkaTransport(f"kafka://{target.brokers}", target.brokers, target.namespace, HttpTransport(target.api))

    return open_kafka
