"""Redelivery: reads the registry's log again from a position and queues its deliveries for one webhook."""

import asyncio

import structlog

from runfold_consumers.runtime.backoff import Backoff
from runfold_consumers.runtime.errors import SERVICE_ERRORS, LogMismatch
from runfold_consumers.runtime.partition_reader import open_partition
from runfold_log.cluster import KafkaCluster
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.postgres.connection import Connection, open_pool
from runfold_projections.webhooks import deliveries
from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

from .matching import match_deliveries

POLL_SECONDS = 1.0
"""Time between checks for requests, which operators make by hand; also the wait for the log's records."""
CLAIM_SECONDS = 60.0
"""How long one worker has a request to itself: far longer than a part takes."""
PART_RECORDS = 500
"""Records per part. Progress is saved after each, so a crash repeats one part."""
STATEMENT_SECONDS = 30.0
REGISTRY = Partition(Topic.REGISTRY, 0)
_log = structlog.get_logger(__name__)


class Redeliverer:
    """Runs until cancelled, in every worker; claims in the table `redelivery` divide the work."""

    def __init__(self, kafka: KafkaCluster, dsn: str, namespace: str, catalog: Catalog, attempts: int) -> None:
        self._kafka, self._dsn, self._namespace = kafka, dsn, namespace
        self._catalog, self._attempts = catalog, attempts

    async def run(self) -> None:
        """Serve requests until cancelled; wait while Kafka or Postgres is down."""
        backoff = Backoff()
        async with open_pool(
            self._dsn,
            self._namespace,
            application="runfold webhooks",
            min_size=0,
            max_size=1,
            timeout=STATEMENT_SECONDS,
        ) as pool:
            while True:
                try:
                    async with pool.acquire() as connection:
                        request = await deliveries.claim_redelivery(connection, CLAIM_SECONDS)
                        if request is not None:
                            await self._queue_part(connection, *request)
                    backoff.reset()
                    if request is None:
                        await asyncio.sleep(POLL_SECONDS)
                except (*SERVICE_ERRORS, LogMismatch) as error:
                    _log.debug("redelivery_waits", error=str(error))
                    await backoff.pause()

    async def _queue_part(self, connection: Connection, webhook_id: str, start: int, end_offset: int) -> None:
        async with open_partition(self._kafka, self._namespace, REGISTRY) as source:
            first, log_end = await source.bounds()
            source.seek(max(start, first))
            raws = await source.read(PART_RECORDS, POLL_SECONDS) if start < log_end else []
            after = await source.position() if start < log_end else end_offset
        raws = [raw for raw in raws if raw.position.offset < end_offset]
        records = decode_batch(raws, self._catalog, 1, frozenset()).records
        found = await match_deliveries(connection, records, self._attempts, only=webhook_id)
        await deliveries.enqueue(connection, found, again=True)
        await deliveries.advance_redelivery(connection, webhook_id, start, max(after, start))
