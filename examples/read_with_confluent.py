"""Reads runs with Confluent's own client: `read_with_confluent.py KAFKA SERVER [NAMESPACE]`.

Needs confluent-kafka[avro,schemaregistry] only.

Its deserialiser is the standard one: it is only told where the schemas are. Where Kafka asks for a password, the
variables RUNFOLD_KAFKA_USERNAME and RUNFOLD_KAFKA_PASSWORD name it.
"""

import os
import sys

from confluent_kafka import OFFSET_BEGINNING, DeserializingConsumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer


def login() -> dict[str, str]:
    """What to tell a Kafka that asks for a password; that of `runfold up` does."""
    if "RUNFOLD_KAFKA_PASSWORD" not in os.environ:
        return {}
    return {
        "security.protocol": os.environ["RUNFOLD_KAFKA_SECURITY_PROTOCOL"],
        "sasl.mechanism": os.environ.get("RUNFOLD_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        "sasl.username": os.environ["RUNFOLD_KAFKA_USERNAME"],
        "sasl.password": os.environ["RUNFOLD_KAFKA_PASSWORD"],
    }


def main(kafka: str, server: str, namespace: str) -> None:
    """Print one line per event of `runs`, up to the topic's present end."""
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
    left = 0
    for number in partitions:
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
        left += end - first
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    while left:
        message = consumer.poll(30)
        if message is None:
            sys.exit("Kafka went silent")
        left -= 1
        headers = {
            name: str(value, "utf-8")
            for name, value in dict(message.headers() or ()).items()
            if isinstance(value, bytes)
        }
        print(f"{message.partition()}:{message.offset()}", headers["ce_type"], message.value())
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "runfold")
