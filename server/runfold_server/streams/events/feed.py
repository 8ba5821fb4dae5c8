"""Who reads the log for streams of events: one reader of it all for those that are up to date, and one of its own for each that is not.

A stream that resumes further back reads the log alone, no faster than its client, until it has come to where the common reader is, and
joins it there without a gap (ADR 17, ADR 23).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import Stretch
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import partition_count
from runfold_server.core.errors import Unavailable
from runfold_server.security.admission import Slots
from runfold_server.streams.log_reader import Gone, StreamReader, open_stream_reader
from runfold_server.streams.send_queue import End

from .event_json import Entry
from .subscription import Following

CATCHING_UP = 4
"""Streams that read the log alone at the same time; others wait."""
MOST_STREAMS, MOST_OF_ONE = 200, 100
"""Streams of one server process, and those of one client, of one kind."""
SLOW_AFTER = 30.0
"""Seconds after which a client that reads nothing holds up nobody any more."""
_PAUSE = 0.5
_WHILE_BUSY_SECONDS = 0.05
_FETCH_BYTES = 256 * 1024
"""Of one partition at a time; a larger record comes alone."""
_MOST_RECORDS = 500
_log = structlog.get_logger(__name__)
Judging = Callable[[Partition, Sequence[Entry]], Awaitable[None]]
"""Gives records of a partition their outcomes, however long that takes."""
Ends = Callable[[LogInfo], Awaitable[dict[Partition, int]]]
"""Where all partitions end now."""


class Feed:
    """Streams of events of one server process; with `judging`, such as are told once the fold has decided about them."""

    def __init__(self, kafka: KafkaCluster, ends: Ends, judging: Judging | None = None) -> None:
        self._kafka, self._ends, self._judging = kafka, ends, judging
        self._common: _Common | None = None
        self._followings: set[Following] = set()
        self.slots = Slots("streams of events", MOST_STREAMS, MOST_OF_ONE)
        self._alone = asyncio.Semaphore(CATCHING_UP)
        self._stopped = False

    @property
    def streams(self) -> int:
        """How many streams there are now."""
        return len(self._followings)

    def stop(self) -> None:
        """End all streams, and those to come: the server stops, and waits for its answers to end."""
        self._stopped = True
        for following in list(self._followings):
            following.finish(End.STOPPED, "the server stops; ask again, the same or another one")

    @asynccontextmanager
    async def followed(self, following: Following, info: LogInfo) -> AsyncIterator[None]:
        """Feed the stream as long as the block lasts."""
        if self._stopped:
            following.finish(End.STOPPED, "the server stops")
        self._followings.add(following)
        task = asyncio.create_task(self._feed(following, info))
        try:
            yield
        finally:
            self._followings.discard(following)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._leave(following)

    async def _feed(self, following: Following, info: LogInfo) -> None:
        if following.end is not None:
            return
        try:
            common = self._common
            if common is None or common.failed:
                common = self._common = _Common(self._kafka, info, self._ends, self._judging)
            await common.begun()
            while not common.joins(following):
                async with self._alone:
                    await self._catch_up(following, info, common)
        except Gone as error:
            following.finish(End.GONE, str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.exception("events_failed", error=repr(error))
            following.finish(End.GONE, "a fault of the server; its log has the details")

    async def _leave(self, following: Following) -> None:
        common = self._common
        if common is None:
            return
        common.leave(following)
        if not self._followings:
            self._common = None
            await common.close()

    async def _catch_up(self, following: Following, info: LogInfo, common: "_Common") -> None:
        """Read the log for this one alone until it is where the common reader is. Returns early when Kafka is away for a while."""
        try:
            async with _open(self._kafka, info, following.offsets) as log:
                while following.end is None and not common.is_reached_by(following):
                    for where, stretch in (await log.read(following.offsets)).items():
                        await self._take_in(following, info, where, stretch)
        except Unavailable as error:
            _log.warning("events_wait_for_kafka", error=error.message)
            await asyncio.sleep(_PAUSE)

    async def _take_in(self, following: Following, info: LogInfo, where: Partition, stretch: Stretch) -> None:
        entries = [one for one in entries_of(info, stretch) if following.wanted.wants(one)]
        if self._judging is not None:
            await self._judging(where, entries)
        for entry in entries:
            try:
                async with asyncio.timeout(SLOW_AFTER):
                    await following.room()
            except TimeoutError:
                following.finish(End.SLOW, "the client reads nothing; it can go on from the last event's id")
            following.take(where, [entry], entry.raw.position.offset + 1)
        following.take(where, [], stretch.next_offset)


class _Common:
    """The common reader: it runs while there is a stream to read for, from the log's end on."""

    def __init__(self, kafka: KafkaCluster, info: LogInfo, ends: Ends, judging: Judging | None) -> None:
        self._kafka, self._info, self._ends, self._judging = kafka, info, ends, judging
        self._streams: set[Following] = set()
        self._behind: dict[Partition, int] = {}
        """Whoever joins must have all that lies before: it was read already, and given to those that were here then."""
        self._begun = asyncio.Event()
        self._failure: str | None = None
        self._task = asyncio.create_task(self._run())

    @property
    def failed(self) -> bool:
        """Whether it had to give up."""
        return self._failure is not None

    async def begun(self) -> None:
        """Return once it is known where it reads. Gone if it had to give up."""
        await self._begun.wait()
        if self._failure is not None:
            raise Gone(self._failure)

    def is_reached_by(self, following: Following) -> bool:
        """Whether the stream may join."""
        return self._failure is not None or all(at >= self._behind[where] for where, at in following.offsets.items())

    def joins(self, following: Following) -> bool:
        """Let the stream join if it is up to date, or has ended. Gone if the reader had to give up."""
        if self._failure is not None:
            raise Gone(self._failure)
        if following.end is None and not self.is_reached_by(following):
            return False
        self._streams.add(following)
        return True

    def leave(self, following: Following) -> None:
        """Forget a stream."""
        self._streams.discard(following)

    async def close(self) -> None:
        """Read no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._read()
        except Gone as error:
            self._give_up(str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.exception("events_failed", error=repr(error))
            self._give_up("a fault of the server; its log has the details")

    def _give_up(self, reason: str) -> None:
        self._failure = reason
        self._begun.set()
        for following in self._streams:
            following.finish(End.GONE, reason)

    async def _read(self) -> None:
        while True:
            try:
                if not self._behind:
                    self._behind = await self._ends(self._info)
                    self._begun.set()
                async with _open(self._kafka, self._info, self._behind) as log:
                    await self._read_on(log)
            except Unavailable as error:
                _log.warning("events_wait_for_kafka", error=error.message)
                await asyncio.sleep(_PAUSE)

    async def _read_on(self, log: StreamReader) -> None:
        # A partition whose fold is behind waits by itself: it is not read on meanwhile, the others are.
        waiting: dict[Partition, asyncio.Task[None]] = {}
        try:
            while True:
                for where in [where for where, task in waiting.items() if task.done()]:
                    waiting.pop(where).result()
                free: Collection[Partition] = self._behind.keys() - waiting.keys()
                if not free:
                    await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
                    continue
                stretches = await (log.read(free, _WHILE_BUSY_SECONDS) if waiting else log.read(free))
                for where, stretch in stretches.items():
                    if self._judging is None:
                        self._give(where, entries_of(self._info, stretch), stretch.next_offset, self._streams)
                    else:
                        waiting[where] = asyncio.create_task(self._judge_and_give(where, stretch))
                # A busy log must not keep those that tell it from telling.
                await asyncio.sleep(0)
        finally:
            for task in waiting.values():
                task.cancel()
            await asyncio.gather(*waiting.values(), return_exceptions=True)

    def _give(
        self, where: Partition, entries: Sequence[Entry], next_offset: int, streams: Collection[Following]
    ) -> None:
        self._behind[where] = next_offset
        for following in streams:
            following.take(where, entries, next_offset)

    async def _judge_and_give(self, where: Partition, stretch: Stretch) -> None:
        assert self._judging is not None
        start, self._behind[where] = self._behind[where], stretch.next_offset
        # Who joins from now on is past this stretch, or catches up with it alone.
        sifted = tuple(self._streams)
        try:
            entries = [
                one
                for one in entries_of(self._info, stretch)
                if any(following.wanted.wants(one) for following in sifted)
            ]
            await self._judging(where, entries)
        except BaseException:
            self._behind[where] = start
            raise
        self._give(where, entries, stretch.next_offset, [one for one in sifted if one in self._streams])


def _open(
    kafka: KafkaCluster, info: LogInfo, offsets: Mapping[Partition, int]
) -> AbstractAsyncContextManager[StreamReader]:
    return open_stream_reader(kafka, info.namespace, offsets, fetch_bytes=_FETCH_BYTES, most=_MOST_RECORDS)


def entries_of(info: LogInfo, stretch: Stretch) -> list[Entry]:
    """The records of a stretch."""
    return [Entry(raw, partition_count(raw.position.topic, info.partitions)) for raw in stretch.raws]
