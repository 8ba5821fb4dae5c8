"""How far the log is ahead of the checkpoints. The checkpoints are also committed to Kafka, for lag monitors that look there."""

import time
from collections.abc import Mapping

from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_task import Status
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import LogReader
from runfold_projections.control.leases import Leasable

EVERY = 2.0


class LagMonitor:
    """Reads the partitions' end offsets with readers that fetch nothing, one per handler, since a handler has its own consumer group.

    Nothing reads the committed offsets: a restart continues from the checkpoints.
    """

    def __init__(self, kafka: KafkaCluster, namespace: str, metrics: WorkerMetrics) -> None:
        self._kafka, self._namespace, self._metrics = kafka, namespace, metrics
        self._readers: dict[str, LogReader] = {}

    async def close(self) -> None:
        """Stop the readers."""
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            await reader.stop()

    async def observe(self, statuses: Mapping[Leasable, Status]) -> None:
        """Measure once and publish the checkpoints. LogUnavailable if Kafka is away."""
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

    def _set(self, item: Leasable, status: Status, end: int) -> None:
        labels = (item.handler, item.where.topic.value, str(item.where.partition))
        lag = max(0, end - status.next_offset)
        seconds = max(0.0, time.time() - status.broker_ms / 1000) if lag and status.broker_ms else 0.0
        self._metrics.lag_events.labels(*labels).set(lag)
        self._metrics.lag_seconds.labels(*labels).set(seconds)

    def forget(self, item: Leasable) -> None:
        """Remove the gauges of a partition that went to another worker."""
        labels = (item.handler, item.where.topic.value, str(item.where.partition))
        for gauge in (self._metrics.lag_events, self._metrics.lag_seconds):
            try:
                gauge.remove(*labels)
            except KeyError:
                pass
