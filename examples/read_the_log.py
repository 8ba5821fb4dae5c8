"""Read metrics from the log without Runfold's code: `read_the_log.py KAFKA SERVER [NAMESPACE]`.

Needs only aiokafka and fastavro. KAFKA is host:port; if it requires a password, set RUNFOLD_KAFKA_SECURITY_PROTOCOL,
RUNFOLD_KAFKA_USERNAME and RUNFOLD_KAFKA_PASSWORD. SERVER is the address of a Runfold server, whose schema registry
speaks the protocol of Confluent's.
"""

import asyncio
import io
import json
import os
import struct
import sys
import urllib.request
from collections.abc import AsyncIterator
from itertools import accumulate
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer, ConsumerRecord


class SchemaRegistry:
    """Fetches schemas by id, each once."""

    def __init__(self, server: str) -> None:
        self._url = f"{server.rstrip('/')}/api/runfold/v1/schema-registry/schemas/ids"
        self._schemas: dict[int, Any] = {}

    async def schema(self, schema_id: int) -> Any:
        """Return a parsed schema."""
        if schema_id not in self._schemas:
            text = await asyncio.to_thread(self._fetch, schema_id)
            self._schemas[schema_id] = fastavro.parse_schema(json.loads(text))
        return self._schemas[schema_id]

    def _fetch(self, schema_id: int) -> str:
        with urllib.request.urlopen(f"{self._url}/{schema_id}", timeout=30) as response:
            return str(json.load(response)["schema"])


async def decode(value: bytes, registry: SchemaRegistry) -> Any:
    """Decode the value of a record: 0x00, the schema id in four bytes, and the Avro body."""
    _, schema_id = struct.unpack_from(">bI", value)
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), await registry.schema(schema_id), None)


def login() -> dict[str, str]:
    """Return the client options for a Kafka that requires a password, such as that of `runfold up`."""
    if "RUNFOLD_KAFKA_PASSWORD" not in os.environ:
        return {}
    return {
        "security_protocol": os.environ["RUNFOLD_KAFKA_SECURITY_PROTOCOL"],
        "sasl_mechanism": os.environ.get("RUNFOLD_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        "sasl_plain_username": os.environ["RUNFOLD_KAFKA_USERNAME"],
        "sasl_plain_password": os.environ["RUNFOLD_KAFKA_PASSWORD"],
    }


async def records(kafka: str, topic: str) -> AsyncIterator[ConsumerRecord]:
    """Yield all records of a topic up to its current end, in order per partition."""
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, **login(), auto_offset_reset="earliest") as consumer:
        partitions = consumer.assignment()  # all partitions, because there is no group
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                for record in batch:
                    yield record


async def main(kafka: str, server: str, namespace: str) -> None:
    """Print one line per frame of metrics."""
    registry = SchemaRegistry(server)
    async for record in records(kafka, f"{namespace}.metrics"):
        # The type is in the headers, so other events need not be decoded.
        if dict(record.headers).get("ce_type") != b"runfold.metrics.MetricsLogged":
            continue
        event = await decode(record.value, registry)
        for frame in event["frames"]:
            width, steps = len(frame["keys"]), list(accumulate(frame["step_deltas"]))
            last_row = dict(zip(frame["keys"], frame["values"][-width:], strict=True))
            print(event["run_id"], f"{len(steps)} rows, step {steps[-1]}:", last_row)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "runfold"))
