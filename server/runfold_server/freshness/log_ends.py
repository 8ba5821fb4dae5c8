"""Where the log's partitions end: one look-up at a time, shared by all reads that began before it was sent."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.log_ends import LogEnds
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
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
    """End offsets of all partitions that have read models. `serve` must run for as long as anybody calls."""

    def __init__(self, kafka: KafkaCluster, connect: Callable[[], Awaitable[LogInfo]], *, timeout: float) -> None:
        self._ends = LogEnds(kafka, connect, FOLDED, timeout=timeout)
        self._coalesced = Coalesced(self._look)

    async def now(self) -> Mapping[Partition, int]:
        """End offsets as of a moment after this call. Unavailable if Kafka does not answer in time."""
        return await self._coalesced.get()

    async def at(self, time_ms: int) -> Mapping[Partition, int]:
        """End offsets as of a time by the broker's clock. Unavailable if Kafka does not answer in time."""
        with kafka_outages():
            return await self._ends.at(time_ms)

    async def serve(self) -> None:
        """Look up end offsets whenever somebody waits for them, until cancelled."""
        try:
            await self._coalesced.serve()
        finally:
            await self._ends.close()

    async def _look(self) -> Mapping[Partition, int]:
        with kafka_outages():
            return await self._ends.now()
