"""Measures how far the log is ahead of the checkpoints, and publishes them to Kafka for lag monitors there."""

import asyncio
import time
from collections.abc import Callable, Mapping

from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_status import PartitionStatus
from runfold_log.cluster import KafkaCluster
from runfold_log.errors import LogUnavailable
from runfold_log.reader import LogReader
from runfold_projections.control.leases import Leasable

from .service_health import ServiceHealth

INTERVAL_SECONDS = 2.0
"""Well below the usual scrape interval of 15 s, and a few requests to Kafka each time."""


class LagMonitor:
    """Reads end offsets with readers that fetch no records: one per handler, since each handler has a consumer group.

    Runfold never reads the committed offsets: a restart continues from the checkpoints.
    """

    def __init__(self, kafka: KafkaCluster, namespace: str, metrics: WorkerMetrics) -> None:
        self._kafka, self._namespace, self._metrics = kafka, namespace, metrics
        self._readers: dict[str, LogReader] = {}

    async def run(self, statuses: Callable[[], Mapping[Leasable, PartitionStatus]], kafka: ServiceHealth) -> None:
        """Measure until cancelled, and record in `kafka` whether it answers."""
        try:
            while True:
                try:
                    await self.observe(statuses())
                    kafka.answered()
                except (LogUnavailable, OSError, TimeoutError) as error:
                    kafka.fail(f"{type(error).__name__}: {error}")
                    await self.close()
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop the readers."""
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            await reader.stop()

    async def observe(self, statuses: Mapping[Leasable, PartitionStatus]) -> None:
        """Measure once and publish the checkpoints. LogUnavailable if Kafka does not answer."""
        handlers = {item.handler for item in statuses}
        for handler in self._readers.keys() - handlers:
            await self._readers.pop(handler).stop()
        for handler in handlers:
            mine = {item: status for item, status in statuses.items() if item.handler == handler}
            reader = await self._reader(handler)
            ends = await reader.end_offsets([item.where for item in mine])
            for item, status in mine.items():
                self._set(item, status, ends[item.where])
            await reader.publish_offsets({item.where: status.next_offset for item, status in mine.items()})

    async def _reader(self, handler: str) -> LogReader:
        if handler not in self._readers:
            reader = LogReader(self._kafka, self._namespace, group=f"runfold.{handler}")
            await reader.start()
            self._readers[handler] = reader
        return self._readers[handler]

    def _set(self, item: Leasable, status: PartitionStatus, end: int) -> None:
        labels = (item.handler, item.where.topic.value, str(item.where.partition))
        lag = max(0, end - status.next_offset)
        seconds = max(0.0, time.time() - status.broker_ms / 1000) if lag and status.broker_ms else 0.0
        self._metrics.lag_events.labels(*labels).set(lag)
        self._metrics.lag_seconds.labels(*labels).set(seconds)

    def forget(self, item: Leasable) -> None:
        """Remove the gauges of a partition that moved to another worker."""
        labels = (item.handler, item.where.topic.value, str(item.where.partition))
        for gauge in (self._metrics.lag_events, self._metrics.lag_seconds):
            try:
                gauge.remove(*labels)
            except KeyError:
                pass
