"""Reads metrics from the log without Runfold: `read_the_log.py BOOTSTRAP [NAMESPACE]`. Needs aiokafka and fastavro only.

The schemas are in the log itself: topic `system` declares each with its id. That is all a reader needs to know beforehand.
"""

import asyncio
import io
import json
import struct
import sys
from collections.abc import AsyncIterator
from itertools import accumulate
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer, ConsumerRecord

SCHEMA_DECLARED = 2  # the one id to know by heart; its schema never changes
SCHEMAS: dict[int, Any] = {
    SCHEMA_DECLARED: fastavro.parse_schema(
        {
            "type": "record",
            "name": "runfold.system.SchemaDeclared",
            "fields": [
                {"name": "schema_id", "type": "int"},
                {"name": "subject", "type": "string"},
                {"name": "version", "type": "int"},
                {"name": "level", "type": "int"},
                {"name": "schema", "type": "string"},
                {"name": "topics", "type": {"type": "array", "items": "string"}},
            ],
        }
    )
}


def decode(value: bytes | None) -> dict[str, Any] | None:
    """Value of a record: 0x00, schema id as four bytes, Avro body. None if it is no event, or of an unknown schema."""
    if value is None or len(value) < 5:
        return None
    magic, schema_id = struct.unpack_from(">bI", value)
    if magic != 0 or schema_id not in SCHEMAS:
        return None
    event: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMAS[schema_id], None)
    return event


async def records(bootstrap: str, topic: str) -> AsyncIterator[ConsumerRecord]:
    """All records of a topic up to its present end, in order per partition."""
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        targets = consumer.assignment()  # without a group: all partitions
        ends = await consumer.end_offsets(targets)
        while any([await consumer.position(target) < ends[target] for target in targets]):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                for record in batch:
                    yield record


async def main(bootstrap: str, namespace: str) -> None:
    """Print one line per metric frame."""
    async for record in records(bootstrap, f"{namespace}.system"):
        event = decode(record.value)
        if event is not None and "schema_id" in event:
            SCHEMAS[event["schema_id"]] = fastavro.parse_schema(json.loads(event["schema"]))
    async for record in records(bootstrap, f"{namespace}.metrics"):
        if dict(record.headers).get("ce_type") != b"runfold.metrics.MetricsLogged":
            continue
        event = decode(record.value)
        for frame in event["frames"] if event else ():
            width, steps = len(frame["keys"]), list(accumulate(frame["step_deltas"]))
            last_row = dict(zip(frame["keys"], frame["values"][-width:], strict=True))
            print(event["run_id"], f"{len(steps)} rows, step {steps[-1]}:", last_row)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "runfold"))
