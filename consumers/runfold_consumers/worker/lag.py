"""How far the log is ahead of the checkpoints; and the checkpoints as hints in Kafka, for lag monitors that look there."""

import time
from collections.abc import Mapping
from typing import Any

from aiokafka import OffsetAndMetadata, TopicPartition

from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_reader import start, stop
from runfold_consumers.runtime.partition_task import Status
from runfold_log.bounded_consumer import BoundedConsumer
from runfold_log.cluster import KafkaCluster
from runfold_projections.control.leases import Leasable
from runfold_schemas.positions.topics import full_name

EVERY = 2.0


class LagMonitor:
    """Asks Kafka for the partitions' ends through consumers that fetch nothing, one per handler (its group holds the hints).

    Nothing reads the hints: a restart goes on from the checkpoints.
    """

    def __init__(self, kafka: KafkaCluster, namespace: str, metrics: WorkerMetrics) -> None:
        self._kafka, self._namespace, self._metrics = kafka, namespace, metrics
        self._consumers: dict[str, Any] = {}

    async def close(self) -> None:
        """Stop the consumers."""
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers.values():
            await stop(consumer)

    async def observe(self, statuses: Mapping[Leasable, Status]) -> None:
        """Measure once and leave the hints. KafkaError if Kafka is away."""
        handlers = {item.handler for item in statuses}
        for handler in self._consumers.keys() - handlers:
            await stop(self._consumers.pop(handler))
        for handler in handlers:
            mine = {
                TopicPartition(full_name(self._namespace, item.where.topic), item.where.partition): (item, status)
                for item, status in statuses.items()
                if item.handler == handler
            }
            consumer = await self._consumer(handler)
            if consumer.assignment() != set(mine):
                consumer.assign(list(mine))
                consumer.pause(*mine)
            ends = await consumer.end_offsets(list(mine))
            for target, (item, status) in mine.items():
                self._set(item, status, ends[target])
            await consumer.commit(
                {target: OffsetAndMetadata(status.next_offset, "") for target, (_, status) in mine.items()}
            )

    async def _consumer(self, handler: str) -> Any:
        if handler not in self._consumers:
            consumer = BoundedConsumer(**self._kafka.options(), group_id=f"runfold.{handler}", enable_auto_commit=False)
            try:
                await start(consumer)
            except BaseException:
                await stop(consumer)
                raise
            self._consumers[handler] = consumer
        return self._consumers[handler]

    def _set(self, item: Leasable, status: Status, end: int) -> None:
        labels = (item.handler, item.where.topic.value, str(item.where.partition))
        behind = max(0, end - status.next_offset)
        seconds = max(0.0, time.time() - status.broker_ms / 1000) if behind and status.broker_ms else 0.0
        self._metrics.lag_events.labels(*labels).set(behind)
        self._metrics.lag_seconds.labels(*labels).set(seconds)

    def forget(self, item: Leasable) -> None:
        """A partition went to another worker: its gauges are no longer ours to show."""
        labels = (item.handler, item.where.topic.value, str(item.where.partition))
        for gauge in (self._metrics.lag_events, self._metrics.lag_seconds):
            try:
                gauge.remove(*labels)
            except KeyError:
                pass
