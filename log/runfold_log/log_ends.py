"""End offsets of the log, now and at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

from .admin import LogInfo
from .cluster import KafkaCluster
from .errors import LogUnavailable
from .reader import LogReader

_RETRY_MS = 20


class LogEnds:
    """End offsets of all partitions of some topics.

    Its consumer fetches nothing, since one that waits for a fetch answers nothing meanwhile. After a failure it
    connects again, so a broker that was away is found when it returns.
    """

    def __init__(
        self,
        kafka: KafkaCluster,
        connect: Callable[[], Awaitable[LogInfo]],
        topics: Collection[Topic],
        *,
        timeout: float,
    ) -> None:
        """`connect` opens the log; `timeout` bounds each call, in seconds."""
        self._kafka, self._connect, self._topics, self._timeout = kafka, connect, topics, timeout
        self._reader: LogReader | None = None
        self._opening = asyncio.Lock()

    async def now(self) -> Mapping[Partition, int]:
        """The end offset of each partition.

        LogUnavailable or TimeoutError if Kafka does not answer, and what `connect` raises.
        """
        return await self._ask(lambda reader, partitions: reader.end_offsets(partitions))

    async def at(self, time_ms: int) -> Mapping[Partition, int]:
        """The end offset that each partition had at this time by the broker's clock. Raises as `now`."""
        return await self._ask(lambda reader, partitions: reader.offsets_at(time_ms + 1, partitions))

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    async def _ask(
        self, ask: Callable[[LogReader, Collection[Partition]], Awaitable[dict[Partition, int]]]
    ) -> Mapping[Partition, int]:
        try:
            async with asyncio.timeout(self._timeout):
                info = await self._connect()
                partitions = [where for topic in self._topics for where in info.all_partitions(topic)]
                return await ask(await self._opened(info.namespace), partitions)
        except (LogUnavailable, TimeoutError, OSError):
            await self.close()
            raise

    async def _opened(self, namespace: str) -> LogReader:
        async with self._opening:
            if self._reader is None:
                reader = LogReader(self._kafka, namespace, request_timeout=self._timeout, retry_ms=_RETRY_MS)
                await reader.start()
                self._reader = reader
            return self._reader
