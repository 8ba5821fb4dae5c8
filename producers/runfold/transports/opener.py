"""From a tracking URI to what carries records there."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from runfold.errors import SdkError
from runfold.tracking_uri import is_web, kafka_target
from runfold_schemas.errors import BadKafkaSecurity

from .base import Transport
from .http import HttpTransport

if TYPE_CHECKING:
    from runfold_log.cluster import KafkaCluster


def opener(uri: str) -> Callable[[], Transport]:
    """How to open the transport for a URI, without opening it; SdkError says what a URI may be."""
    if is_web(uri):
        return lambda: HttpTransport(uri)
    target = kafka_target(uri)
    kafka = _cluster(target.brokers)

    def open_kafka() -> Transport:
        # Imported on first use: aiokafka is needed only for `kafka://`.
        from .kafka import KafkaTransport

        return KafkaTransport(f"kafka://{target.brokers}", kafka, target.namespace, HttpTransport(target.api))

    return open_kafka


def _cluster(brokers: str) -> "KafkaCluster":
    from runfold_log.cluster import KafkaCluster, KafkaSecurity

    try:
        return KafkaCluster(brokers, KafkaSecurity.from_environment())
    except BadKafkaSecurity as error:
        raise SdkError(str(error)) from None
