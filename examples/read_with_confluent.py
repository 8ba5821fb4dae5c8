"""Read events of runs with Confluent's client: `read_with_confluent.py KAFKA SERVER [NAMESPACE]`.

Needs only confluent-kafka[avro,schemaregistry]. The standard deserializer works; it only needs the address of the
schema registry. If Kafka requires a password, set RUNFOLD_KAFKA_SECURITY_PROTOCOL, RUNFOLD_KAFKA_USERNAME and
RUNFOLD_KAFKA_PASSWORD.
"""

import os
import sys

from confluent_kafka import OFFSET_BEGINNING, DeserializingConsumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer


def login() -> dict[str, str]:
    """Return the client options for a Kafka that requires a password, such as that of `runfold up`."""
    if "RUNFOLD_KAFKA_PASSWORD" not in os.environ:
        return {}
    return {
        "security.protocol": os.environ["RUNFOLD_KAFKA_SECURITY_PROTOCOL"],
        "sasl.mechanism": os.environ.get("RUNFOLD_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        "sasl.username": os.environ["RUNFOLD_KAFKA_USERNAME"],
        "sasl.password": os.environ["RUNFOLD_KAFKA_PASSWORD"],
    }


def main(kafka: str, server: str, namespace: str) -> None:
    """Print one line per event of the topic `runs`, up to its current end."""
    registry = SchemaRegistryClient({"url": f"{server.rstrip('/')}/api/runfold/v1/schema-registry"})
    consumer = DeserializingConsumer(
        {
            "bootstrap.servers": kafka,
            **login(),
            "group.id": "an-example",
            "enable.auto.commit": False,
            "value.deserializer": AvroDeserializer(registry),
        }
    )
    topic = f"{namespace}.runs"
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    remaining = 0
    for number in partitions:
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
        remaining += end - first
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    while remaining:
        message = consumer.poll(30)
        if message is None:
            sys.exit("Kafka sent nothing for 30 s")
        remaining -= 1
        headers = {
            name: str(value, "utf-8")
            for name, value in dict(message.headers() or ()).items()
            if isinstance(value, bytes)
        }
        print(f"{message.partition()}:{message.offset()}", headers["ce_type"], message.value())
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "runfold")
