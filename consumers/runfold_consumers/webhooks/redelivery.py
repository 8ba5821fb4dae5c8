"""Redelivery: the log is read once more from a position, for one webhook, and what it tells is queued again."""

import asyncio
from typing import Any

import structlog

from runfold_consumers.runtime.errors import LogRefused
from runfold_consumers.runtime.partition_reader import open_partition
from runfold_consumers.runtime.partition_task import AWAY, Backoff
from runfold_log.cluster import KafkaCluster
from runfold_projections.folding.partition_fold import decode_batch
from runfold_projections.postgres.connection import open_pool
from runfold_projections.webhooks import deliveries as queue
from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

from .reaction import deliveries

POLL = 1.0
HELD = 60.0
MOST_RECORDS = 500
REGISTRY = Partition(Topic.REGISTRY, 0)
_log = structlog.get_logger(__name__)


class Again:
    """Runs until cancelled, in every worker; the table says who does what."""

    def __init__(self, kafka: KafkaCluster, dsn: str, namespace: str, catalog: Catalog, attempts: int) -> None:
        self._kafka, self._dsn, self._namespace, self._catalog, self._attempts = (
            kafka,
            dsn,
            namespace,
            catalog,
            attempts,
        )

    async def run(self) -> None:
        """Do what is asked for; wait while Kafka or Postgres is away."""
        backoff = Backoff()
        async with open_pool(
            self._dsn, self._namespace, application="runfold webhooks", min_size=0, max_size=1, timeout=30.0
        ) as pool:
            while True:
                try:
                    async with pool.acquire() as connection:
                        asked = await queue.claim_redelivery(connection, HELD)
                        if asked is not None:
                            await self._part(connection, *asked)
                    backoff.reset()
                    if asked is None:
                        await asyncio.sleep(POLL)
                except (*AWAY, LogRefused) as error:
                    _log.debug("a redelivery waits", error=str(error))
                    await backoff.pause()

    async def _part(self, connection: Any, webhook_id: str, start: int, until: int) -> None:
        async with open_partition(self._kafka, self._namespace, REGISTRY) as source:
            first, end = await source.bounds()
            source.seek(max(start, first))
            raws = await source.read(MOST_RECORDS, POLL) if start < end else []
            after = await source.position() if start < end else until
        raws = [raw for raw in raws if raw.position.offset < until]
        records = decode_batch(raws, self._catalog, 1, frozenset()).records
        found = await deliveries(connection, records, self._attempts, only=webhook_id)
        await queue.enqueue(connection, found, again=True)
        await queue.advance_redelivery(connection, webhook_id, start, max(after, start))
