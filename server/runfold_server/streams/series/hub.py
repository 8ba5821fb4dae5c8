"""Who reads the log for whom: one reader per partition for all streams that are up to date, and one of its own for each that is not.

A stream that resumes far back reads the log alone, no faster than its client, until it has come to where the common reader is, and
joins it there without a gap.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from runfold_log.cluster import KafkaCluster
from runfold_server.core.errors import Unavailable
from runfold_server.reads.reader import Reader
from runfold_server.security.admission import Slots
from runfold_server.streams.log_reader import Gone
from runfold_server.streams.send_queue import End

from .metrics_tail import Tail, open_tail
from .subscription import Subscription

CATCHING_UP = 4
"""Streams that read the log alone at the same time; others wait."""
MOST_STREAMS, MOST_OF_ONE = 500, 100
"""Streams of one server process, and those of one client."""
_PAUSE = 0.5
_log = structlog.get_logger(__name__)


class Hub:
    """Live streams of one server process. `serve` must run for as long as anybody subscribes."""

    def __init__(self, kafka: KafkaCluster, namespace: str, reader: Reader) -> None:
        self._kafka, self._namespace, self._reader = kafka, namespace, reader
        self._partitions: dict[int, _Partition] = {}
        self._subscriptions: set[Subscription] = set()
        self.slots = Slots("streams of series", MOST_STREAMS, MOST_OF_ONE)
        self._alone = asyncio.Semaphore(CATCHING_UP)
        self._stopped = False

    @property
    def streams(self) -> int:
        """How many streams there are now."""
        return len(self._subscriptions)

    def stop(self) -> None:
        """End all streams, and those to come: the server stops, and waits for its answers to end."""
        self._stopped = True
        for subscription in list(self._subscriptions):
            subscription.finish(End.STOPPED, "the server stops; ask again, the same or another one")

    @asynccontextmanager
    async def subscribed(self, subscription: Subscription, partitions: int) -> AsyncIterator[None]:
        """Feed the subscription as long as the block lasts. `partitions` is how many the log of metrics has."""
        if self._stopped:
            subscription.finish(End.STOPPED, "the server stops")
        self._subscriptions.add(subscription)
        tasks = [
            asyncio.create_task(self._feed(subscription, partition, partitions)) for partition in subscription.offsets
        ]
        try:
            yield
        finally:
            self._subscriptions.discard(subscription)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, subscription: Subscription, partition: int, partitions: int) -> None:
        common = self._partitions.get(partition)
        if common is None:
            common = self._partitions[partition] = _Partition(self, partition, partitions)
        try:
            while not common.joins(subscription):
                async with self._alone:
                    await self._catch_up(subscription, common)
            await asyncio.get_running_loop().create_future()
        except Gone as error:
            subscription.finish(End.GONE, str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.exception("live_failed", partition=partition, error=repr(error))
            subscription.finish(End.GONE, "a fault of the server; its log has the details")
        finally:
            await common.leave(subscription)

    async def _catch_up(self, subscription: Subscription, common: "_Partition") -> None:
        """Read the log for this one alone until it is where the common reader is. Returns early when Kafka is away for a while."""
        partition = common.number
        try:
            async with self.tail(partition, common.partitions, subscription.offsets[partition]) as tail:
                while subscription.end is None and not common.is_reached_by(subscription):
                    raws, next_offset = await tail.stretch(subscription.offsets[partition])
                    for record in await tail.taken(raws, subscription.runs.__contains__):
                        await subscription.room()
                        subscription.take(partition, [record], record.position.offset + 1)
                    subscription.take(partition, [], next_offset)
        except Unavailable as error:
            _log.warning("live_waits_for_kafka", partition=partition, error=error.message)
            await asyncio.sleep(_PAUSE)

    def tail(self, partition: int, partitions: int, start: int) -> AbstractAsyncContextManager[Tail]:
        """A reader of its own."""
        return open_tail(self._kafka, self._namespace, partition, partitions, self._reader, start)


class _Partition:
    """The common reader of one partition: it runs while there is a stream to read for."""

    def __init__(self, hub: Hub, number: int, partitions: int) -> None:
        self.number, self.partitions = number, partitions
        self._hub = hub
        self._streams: set[Subscription] = set()
        self._reading: asyncio.Task[None] | None = None
        self._behind = 0
        """Whoever joins must have all that lies before: it was read already, and sifted for those that were here then."""
        self._runs: dict[str, int] = {}

    def is_reached_by(self, subscription: Subscription) -> bool:
        """Whether the stream may join."""
        return self._reading is None or subscription.offsets[self.number] >= self._behind

    def joins(self, subscription: Subscription) -> bool:
        """Let the stream join if it is up to date."""
        if not self.is_reached_by(subscription):
            return False
        self._streams.add(subscription)
        for run_id in subscription.runs:
            self._runs[run_id] = self._runs.get(run_id, 0) + 1
        if self._reading is None:
            self._behind = subscription.offsets[self.number]
            self._reading = asyncio.create_task(self._read())
        return True

    async def leave(self, subscription: Subscription) -> None:
        """Forget a stream; without any the reading ends."""
        if subscription not in self._streams:
            return
        self._streams.discard(subscription)
        for run_id in subscription.runs:
            self._runs[run_id] -= 1
            if not self._runs[run_id]:
                del self._runs[run_id]
        if not self._streams and self._reading is not None:
            reading, self._reading = self._reading, None
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            try:
                async with self._hub.tail(self.number, self.partitions, self._behind) as tail:
                    await self._read_on(tail)
            except Unavailable as error:
                _log.warning("live_waits_for_kafka", partition=self.number, error=error.message)
                await asyncio.sleep(_PAUSE)
            except Gone as error:
                self._end_all(str(error))
                return
            except Exception as error:
                _log.exception("live_failed", partition=self.number, error=repr(error))
                self._end_all("a fault of the server; its log has the details")
                return

    async def _read_on(self, tail: Tail) -> None:
        while True:
            start = self._behind
            raws, next_offset = await tail.stretch(start)
            if next_offset == start:
                continue
            self._behind = next_offset
            sifted = tuple(self._streams)
            try:
                records = await tail.taken(raws, self._runs.__contains__)
            except BaseException:
                self._behind = start
                raise
            for subscription in sifted:
                if subscription in self._streams:
                    subscription.take(self.number, records, next_offset)

    def _end_all(self, reason: str) -> None:
        self._reading = None
        for subscription in self._streams:
            subscription.finish(End.GONE, reason)
