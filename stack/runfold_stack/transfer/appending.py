"""How an import appends: records in order, a window at a time."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.producer import RecordSender
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import partition_count, partition_of

WINDOW_BYTES = 256 * 1024
_LINGER_MS = 5
_KAFKA_PATIENCE = 120.0


class Appender:
    """Appends records in order, a window at a time, and remembers how far the log must be folded to show them."""

    def __init__(self, kafka: KafkaCluster, info: LogInfo) -> None:
        self._kafka, self._info = kafka, info
        self.ends: dict[Partition, int] = {}

    @property
    def level(self) -> int:
        """The log's feature level."""
        return self._info.level

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self._sender = await self._stack.enter_async_context(
            RecordSender(self._kafka, self._info.namespace, linger_ms=_LINGER_MS, patience=_KAFKA_PATIENCE)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def append(self, records: Sequence[Outgoing]) -> list[Position]:
        """Their positions, when Kafka has acknowledged them all. LogUnavailable."""
        positions: list[Position] = []
        start = 0
        while start < len(records):
            # What is begun in order lands in order while the producer has room for all of it at once.
            size, stop = len(records[start].value), start + 1
            while stop < len(records) and size + len(records[stop].value) <= WINDOW_BYTES:
                size += len(records[stop].value)
                stop += 1
            window = records[start:stop]
            positions += await asyncio.gather(*(self._sender.send(self._place(record), record) for record in window))
            start = stop
        for position in positions:
            self.ends[position.where] = max(self.ends.get(position.where, 0), position.offset + 1)
        return positions

    def _place(self, record: Outgoing) -> Partition:
        return Partition(record.topic, partition_of(record.key, partition_count(record.topic, self._info.partitions)))
