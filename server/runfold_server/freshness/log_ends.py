"""Where the log's partitions end: one look-up at a time, shared by all reads that began before it was sent."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from runfold_log.bounded_consumer import BoundedConsumer
from runfold_log.cluster import KafkaCluster
from runfold_log.writer import LogInfo
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, full_name
from runfold_server.core.errors import Unavailable
from runfold_server.core.outages import kafka_outages

FOLDED = (Topic.EXPERIMENTS, Topic.REGISTRY, Topic.RUNS, Topic.METRICS)
"""Topics that have read models."""

Lookup = Callable[[], Awaitable[Mapping[Partition, int]]]
_log = structlog.get_logger(__name__)


class Coalesced:
    """Answers many callers with few look-ups: a caller is served by one that started after the call (as Raft's ReadIndex).

    `serve` must run for as long as anybody calls. A look-up's Unavailable goes to all its callers.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._callers: list[asyncio.Future[Mapping[Partition, int]]] = []
        self._called = asyncio.Event()

    async def get(self) -> Mapping[Partition, int]:
        """The answer of a look-up that starts after this call."""
        caller: asyncio.Future[Mapping[Partition, int]] = asyncio.get_running_loop().create_future()
        self._callers.append(caller)
        self._called.set()
        return await caller

    async def serve(self) -> None:
        """Look up whenever somebody waits, until cancelled."""
        try:
            await self._serve()
        finally:
            for caller in self._callers:
                caller.cancel()

    async def _serve(self) -> None:
        while True:
            await self._called.wait()
            self._called.clear()
            callers, self._callers = self._callers, []
            try:
                ends = await self._lookup()
            except asyncio.CancelledError:
                for caller in callers:
                    caller.cancel()
                raise
            except Exception as error:
                if not isinstance(error, Unavailable):
                    _log.exception("ends_lookup_failed", error=repr(error))
                for caller in callers:
                    if not caller.done():
                        # One exception object per caller: each gets a traceback of its own.
                        caller.set_exception(_again(error))
            else:
                for caller in callers:
                    if not caller.done():
                        caller.set_result(ends)


def _again(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return Unavailable(error.message, error.retry_after)
    return Unavailable(f"the log's ends can't be read: {type(error).__name__}: {error}")


class Ends:
    """Ends (next offsets) of all partitions that have read models.

    The consumer fetches nothing: one that long-polls answers nothing else meanwhile (libraries.md, K10). It is made
    again after a failure, so a broker that was away is found when it returns.
    """

    def __init__(self, kafka: KafkaCluster, connect: Callable[[], Awaitable[LogInfo]], *, timeout: float) -> None:
        self._kafka = kafka
        self._connect = connect
        self._timeout = timeout
        self._consumer: AIOKafkaConsumer | None = None
        self._coalesced = Coalesced(self._look)

    async def now(self) -> Mapping[Partition, int]:
        """Ends as of a moment after this call. Unavailable if Kafka does not answer in time."""
        return await self._coalesced.get()

    async def at(self, time_ms: int) -> Mapping[Partition, int]:
        """Next offsets as of a time by the broker's clock: of the first record of each partition that was appended after it.

        Unavailable if Kafka does not answer in time.
        """
        # Taken first: a partition without such a record ends, at that time, no earlier than this.
        ends = await self.now()
        try:
            with kafka_outages():
                async with asyncio.timeout(self._timeout):
                    targets = await self._targets()
                    consumer = self._consumer or await self._start()
                    found = await consumer.offsets_for_times(dict.fromkeys(targets, time_ms + 1))
        except Unavailable:
            await self._drop()
            raise
        return {
            where: min(ends[where], later.offset) if (later := found.get(target)) is not None else ends[where]
            for target, where in targets.items()
        }

    async def serve(self) -> None:
        """The task that does the look-ups."""
        try:
            await self._coalesced.serve()
        finally:
            await self._drop()

    async def _look(self) -> Mapping[Partition, int]:
        try:
            with kafka_outages():
                async with asyncio.timeout(self._timeout):
                    wanted = await self._targets()
                    consumer = self._consumer or await self._start()
                    found = await consumer.end_offsets(list(wanted))
        except Unavailable:
            await self._drop()
            raise
        return {wanted[partition]: end for partition, end in found.items()}

    async def _targets(self) -> dict[TopicPartition, Partition]:
        info = await self._connect()
        return {
            TopicPartition(full_name(info.namespace, where.topic), where.partition): where
            for topic in FOLDED
            for where in info.all_partitions(topic)
        }

    async def _start(self) -> AIOKafkaConsumer:
        consumer = BoundedConsumer(
            **self._kafka.options(),
            group_id=None,
            enable_auto_commit=False,
            request_timeout_ms=int(self._timeout * 1000),
            retry_backoff_ms=20,
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        return consumer

    async def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                async with asyncio.timeout(2):
                    await consumer.stop()
            except TimeoutError:
                pass
