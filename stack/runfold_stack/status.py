"""`runfold status`: parts, versions, positions, lag."""

import asyncio
from typing import Any

import asyncpg
import httpx2
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from runfold.birth import open_log
from runfold.errors import RunfoldError
from runfold.reading import plain_consumer
from runfold_projections.database import open_connection
from runfold_projections.errors import ProjectionError
from runfold_projections.generations import Projection
from runfold_projections.migrate import check_migrated
from runfold_projections.queries import operations
from runfold_schemas.position import Partition
from runfold_schemas.topics import full_name

from .release import RELEASE
from .services import Services

Ends = dict[Partition, int]


async def status(services: Services, namespace: str) -> dict[str, Any]:
    """Everything that can be found out now, as JSON; a part that does not answer says why."""
    async with asyncio.TaskGroup() as group:
        kafka = group.create_task(_kafka(services.kafka, namespace))
        postgres = group.create_task(_postgres(services.postgres, namespace))
        server = group.create_task(_http(services.server))
        worker = group.create_task(_http(services.worker))
    log, ends = kafka.result()
    tables = postgres.result()
    checkpoints: dict[Partition, int] = tables.pop("checkpoints", {})
    positions = [
        {
            "partition": str(where),
            "end": ends.get(where),
            "checkpoint": checkpoints.get(where, 0),
            "lag": ends[where] - checkpoints.get(where, 0) if where in ends else None,
        }
        for where in sorted(set(ends) | set(checkpoints))
    ]
    parts = {"kafka": log, "postgres": tables, "server": server.result(), "worker": worker.result()}
    return {"release": RELEASE, "namespace": namespace, "parts": parts, "partitions": positions}


async def _kafka(kafka: str, namespace: str) -> tuple[dict[str, Any], Ends]:
    where = {"address": kafka}
    try:
        async with asyncio.timeout(10):
            info = await open_log(kafka, namespace)
            folded = [part for projection in Projection for part in info.all_partitions(projection.topic)]
            async with plain_consumer(kafka) as consumer:
                targets = {(full_name(namespace, p.topic), p.partition): p for p in folded}
                ends = await consumer.end_offsets([TopicPartition(*name) for name in targets])
    except (KafkaError, OSError, TimeoutError, RunfoldError) as error:
        return {**where, "state": "away", "error": f"{type(error).__name__}: {error}"}, {}
    facts = {
        **where,
        "state": "ready",
        "log_id": info.log_id,
        "feature_level": info.level,
        "partitions": info.partitions,
    }
    return facts, {targets[t.topic, t.partition]: end for t, end in ends.items()}


async def _postgres(dsn: str, namespace: str) -> dict[str, Any]:
    where = {"address": dsn}
    try:
        async with open_connection(dsn, namespace, application="runfold status", timeout=5) as connection:
            facts = {**where, "state": "ready", "version": await connection.fetchval("SHOW server_version")}
            await check_migrated(connection)
            return facts | await operations.overview(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ProjectionError) as error:
        return {**where, "state": "away", "error": f"{type(error).__name__}: {error}"}


async def _http(url: str | None) -> dict[str, Any]:
    if url is None:
        return {"state": "unknown", "error": "no stack of this namespace runs on the data directory"}
    try:
        async with httpx2.AsyncClient(timeout=5, trust_env=False) as client:
            answer = await client.get(f"{url}/health/ready")
            return {
                "address": url,
                "state": "ready" if answer.status_code == 200 else "not ready",
                "detail": answer.json(),
            }
    except (httpx2.HTTPError, ValueError) as error:
        return {"address": url, "state": "away", "error": f"{type(error).__name__}: {error}"}
