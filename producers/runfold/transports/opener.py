"""Choice of the transport by tracking URI."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from runfold.errors import SdkError
from runfold.tracking_uri import is_web, kafka_target
from runfold_schemas.errors import BadKafkaSecurity

from .base import Transport
from .http import HttpTransport

if TYPE_CHECKING:
    from runfold_log.cluster import KafkaCluster


def transport_opener(uri: str) -> Callable[[], Transport]:
    """Check a tracking URI and return a function that opens its transport. SdkError if the URI is invalid."""
    if is_web(uri):
        return lambda: HttpTransport(uri)
    target = kafka_target(uri)
    cluster = _cluster(target.brokers)

    def open_kafka() -> Transport:
        # Imported here because aiokafka would slow down every start that uses HTTP.
        from .kafka import KafkaTransport

        return KafkaTransport(f"kafka://{target.brokers}", cluster, target.namespace, HttpTransport(target.api))

    return open_kafka


def _cluster(brokers: str) -> "KafkaCluster":
    # Imported here for the same reason.
    from runfold_log.cluster import KafkaCluster, KafkaSecurity

    try:
        return KafkaCluster(brokers, KafkaSecurity.from_environment())
    except BadKafkaSecurity as error:
        raise SdkError(str(error)) from None
