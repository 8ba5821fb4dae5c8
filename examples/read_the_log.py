"""Reads metrics from the log without Runfold: `read_the_log.py KAFKA SERVER [NAMESPACE]`.

Needs aiokafka and fastavro only.

KAFKA is host:port, with the variables RUNFOLD_KAFKA_USERNAME and RUNFOLD_KAFKA_PASSWORD where it asks for them. SERVER
the address of a Runfold server: it answers what a schema id means, by the protocol of Confluent's registry.
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


class Schemas:
    """Schemas by the id that stands before every value; asked for once each."""

    def __init__(self, server: str) -> None:
        self._ids = f"{server.rstrip('/')}/api/runfold/v1/schema-registry/schemas/ids"
        self._known: dict[int, Any] = {}

    async def of_id(self, schema_id: int) -> Any:
        """The parsed schema."""
        if schema_id not in self._known:
            text = await asyncio.to_thread(self._ask, schema_id)
            self._known[schema_id] = fastavro.parse_schema(json.loads(text))
        return self._known[schema_id]

    def _ask(self, schema_id: int) -> str:
        with urllib.request.urlopen(f"{self._ids}/{schema_id}", timeout=30) as answer:
            return str(json.load(answer)["schema"])


async def decode(value: bytes, schemas: Schemas) -> Any:
    """Value of a record: 0x00, schema id as four bytes, Avro body."""
    _, schema_id = struct.unpack_from(">bI", value)
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), await schemas.of_id(schema_id), None)


def login() -> dict[str, str]:
    """What to tell a Kafka that asks for a password; that of `runfold up` does."""
    if "RUNFOLD_KAFKA_PASSWORD" not in os.environ:
        return {}
    return {
        "security_protocol": os.environ["RUNFOLD_KAFKA_SECURITY_PROTOCOL"],
        "sasl_mechanism": os.environ.get("RUNFOLD_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        "sasl_plain_username": os.environ["RUNFOLD_KAFKA_USERNAME"],
        "sasl_plain_password": os.environ["RUNFOLD_KAFKA_PASSWORD"],
    }


async def records(kafka: str, topic: str) -> AsyncIterator[ConsumerRecord]:
    """All records of a topic up to its present end, in order per partition."""
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, **login(), auto_offset_reset="earliest") as consumer:
        targets = consumer.assignment()  # without a group: all partitions
        ends = await consumer.end_offsets(targets)
        while any([await consumer.position(target) < ends[target] for target in targets]):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                for record in batch:
                    yield record


async def main(kafka: str, server: str, namespace: str) -> None:
    """Print one line per metric frame."""
    schemas = Schemas(server)
    async for record in records(kafka, f"{namespace}.metrics"):
        # The headers say what it is, so that nobody has to decode what he does not want.
        if dict(record.headers).get("ce_type") != b"runfold.metrics.MetricsLogged":
            continue
        event = await decode(record.value, schemas)
        for frame in event["frames"]:
            width, steps = len(frame["keys"]), list(accumulate(frame["step_deltas"]))
            last_row = dict(zip(frame["keys"], frame["values"][-width:], strict=True))
            print(event["run_id"], f"{len(steps)} rows, step {steps[-1]}:", last_row)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "runfold"))
