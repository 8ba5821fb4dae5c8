"""The engine of all live streams: who reads the log for whom.

A common reader serves all streams that are up to date. A stream that resumes further back reads the log alone, no
faster than its client, until it has come to where the common reader is, and joins it there without a gap (ADR 17, ADR
23).
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import structlog

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import FETCH_WAIT_SECONDS, Stretch
from runfold_schemas.positions.position import Partition, Position
from runfold_server.core.errors import Unavailable
from runfold_server.security.slots import Slots

from .log_reader import Gone, StreamReader, open_stream_reader
from .send_queue import End, SendQueue

CATCHING_UP = 4
"""Streams of one kind that read the log alone at the same time; others wait."""
_RETRY_SECONDS = 0.5
"""Pause before the log is read again while Kafka is away."""
_BUSY_WAIT_SECONDS = 0.05
"""How long a reader waits for other partitions while some are being prepared."""
_FAULT = "a fault of the server; its log has the details"
_log = structlog.get_logger(__name__)


class Positioned(Protocol):
    """Something at a position of the log."""

    @property
    def position(self) -> Position:
        """Its place."""
        ...


Item = TypeVar("Item", bound=Positioned)
S = TypeVar("S", bound=SendQueue[Any, Any])


class Audience(Generic[S]):
    """The streams that a reader reads for."""

    def __init__(self, streams: Collection[S] = ()) -> None:
        self.streams: set[S] = set()
        self._interests: Counter[str] = Counter()
        for stream in streams:
            self.add(stream)

    def add(self, stream: S) -> None:
        """Read for this stream, too."""
        if stream not in self.streams:
            self.streams.add(stream)
            self._interests.update(stream.interests)

    def remove(self, stream: S) -> None:
        """Read for this stream no more."""
        if stream in self.streams:
            self.streams.remove(stream)
            self._interests.subtract(stream.interests)

    def is_interested_in(self, entity: str) -> bool:
        """Whether any of the streams is about this entity."""
        return self._interests[entity] > 0


class StreamKind(ABC, Generic[S, Item]):
    """What one kind of stream makes of the log."""

    name: str
    """Names the kind in the server's log."""
    fetch_bytes: int
    """Bound on one fetch of one partition."""
    max_records: int
    """Records of one read."""
    slow_seconds: float | None
    """How long a stream that catches up waits for a client that reads nothing, before it ends; None: for ever."""
    reads_partitions_apart: bool
    """Whether each partition has a common reader of its own, or one reads all."""

    @abstractmethod
    async def start_offsets(self, info: LogInfo) -> Mapping[Partition, int] | None:
        """Where a common reader starts; None: where its first stream is. Unavailable if Kafka is away."""

    @abstractmethod
    async def prepare(self, info: LogInfo, where: Partition, stretch: Stretch, audience: Audience[S]) -> Sequence[Item]:
        """The items of a stretch for these streams, in order. Waits for the fold where that decides, however long it
        takes; Gone.
        """


class LiveFeed(Generic[S, Item]):
    """All live streams of one kind in one server process."""

    def __init__(self, kafka: KafkaCluster, kind: StreamKind[S, Item], slots: Slots) -> None:
        self._kafka, self._kind = kafka, kind
        self.slots = slots
        self._readers: dict[Partition | None, _CommonReader[S, Item]] = {}
        self._streams: set[S] = set()
        self._catching_up = asyncio.Semaphore(CATCHING_UP)
        self._stopped = False

    @property
    def streams(self) -> int:
        """The number of streams."""
        return len(self._streams)

    def stop(self) -> None:
        """End all streams, and those to come: the server stops, and waits for its answers to end."""
        self._stopped = True
        for stream in list(self._streams):
            stream.finish(End.STOPPED, "the server stops; ask again, the same or another one")

    @asynccontextmanager
    async def feeding(self, stream: S, info: LogInfo) -> AsyncIterator[None]:
        """Feed the stream as long as the block lasts."""
        if self._stopped:
            stream.finish(End.STOPPED, "the server stops")
        self._streams.add(stream)
        apart = self._kind.reads_partitions_apart
        keys: list[Partition | None] = list(stream.offsets) if apart else [None]
        tasks = [asyncio.create_task(self._feed(stream, info, key)) for key in keys] if stream.end is None else []
        try:
            yield
        finally:
            self._streams.discard(stream)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for key in keys:
                await self._leave(stream, key)

    async def _feed(self, stream: S, info: LogInfo, key: Partition | None) -> None:
        try:
            reader = self._reader_for(stream, info, key)
            await reader.started()
            while not reader.join(stream):
                async with self._catching_up:
                    await self._catch_up(stream, reader)
        except Gone as error:
            stream.finish(End.GONE, str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.exception("stream_failed", kind=self._kind.name, error=repr(error))
            stream.finish(End.GONE, _FAULT)

    def _reader_for(self, stream: S, info: LogInfo, key: Partition | None) -> "_CommonReader[S, Item]":
        reader = self._readers.get(key)
        if reader is None or reader.has_failed:
            offsets = stream.offsets if key is None else {key: stream.offsets[key]}
            reader = self._readers[key] = _CommonReader(self._kafka, self._kind, info, offsets)
        reader.users.add(stream)
        return reader

    async def _leave(self, stream: S, key: Partition | None) -> None:
        reader = self._readers.get(key)
        if reader is None:
            return
        reader.leave(stream)
        if not reader.users:
            del self._readers[key]
            await reader.close()

    async def _catch_up(self, stream: S, reader: "_CommonReader[S, Item]") -> None:
        """Read the log for this stream alone until it is where the common reader is.

        Returns early while Kafka is away.
        """
        audience = Audience([stream])
        offsets = reader.own(stream)
        try:
            async with reader.open(offsets) as log:
                while stream.end is None and not reader.is_reached_by(stream):
                    for where, stretch in (await log.read()).items():
                        items = await self._kind.prepare(reader.info, where, stretch, audience)
                        await self._add_slowly(stream, where, items, stretch.next_offset)
        except Unavailable as error:
            _log.warning("stream_waits_for_kafka", kind=self._kind.name, error=error.message)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _add_slowly(self, stream: S, where: Partition, items: Sequence[Item], next_offset: int) -> None:
        """Add items one by one, no faster than the client takes them."""
        for item in items:
            try:
                async with asyncio.timeout(self._kind.slow_seconds):
                    await stream.wait_for_room()
            except TimeoutError:
                stream.finish(End.SLOW, "the client reads nothing; it can go on from the last event's id")
            stream.add(where, [item], item.position.offset + 1)
        stream.add(where, [], next_offset)


class _CommonReader(Generic[S, Item]):
    """Reads some partitions for all streams that are up to date, as long as there is one to read for."""

    def __init__(
        self, kafka: KafkaCluster, kind: StreamKind[S, Item], info: LogInfo, first: Mapping[Partition, int]
    ) -> None:
        """`first` has the offsets of the first stream."""
        self._kafka, self._kind, self.info, self._first = kafka, kind, info, first
        self.users: set[S] = set()
        """Streams that have joined or are catching up."""
        self._audience: Audience[S] = Audience()
        self._offsets: dict[Partition, int] = {}
        """How far it has read. A stream that joins must have all before: it was prepared for those that were here then.
        """
        self._started = asyncio.Event()
        self._failure: str | None = None
        self._task = asyncio.create_task(self._run())

    @property
    def has_failed(self) -> bool:
        """Whether it has given up."""
        return self._failure is not None

    async def started(self) -> None:
        """Return when its offsets are known. Gone if it has given up."""
        await self._started.wait()
        if self._failure is not None:
            raise Gone(self._failure)

    def own(self, stream: S) -> dict[Partition, int]:
        """The stream's offsets of the partitions that this reader reads."""
        return {where: offset for where, offset in stream.offsets.items() if where in self._offsets}

    def is_reached_by(self, stream: S) -> bool:
        """Whether the stream may join."""
        return self.has_failed or all(offset >= self._offsets[where] for where, offset in self.own(stream).items())

    def join(self, stream: S) -> bool:
        """Let the stream join if it is up to date or has ended. Gone if the reader has given up."""
        if self._failure is not None:
            raise Gone(self._failure)
        if stream.end is None and not self.is_reached_by(stream):
            return False
        self._audience.add(stream)
        return True

    def leave(self, stream: S) -> None:
        """Forget a stream."""
        self.users.discard(stream)
        self._audience.remove(stream)

    async def close(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def open(self, offsets: Mapping[Partition, int]) -> AbstractAsyncContextManager[StreamReader]:
        """A reader of the log at these offsets."""
        kind = self._kind
        return open_stream_reader(
            self._kafka, self.info.namespace, offsets, fetch_bytes=kind.fetch_bytes, most=kind.max_records
        )

    async def _run(self) -> None:
        try:
            await self._read()
        except Gone as error:
            self._give_up(str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.exception("stream_failed", kind=self._kind.name, error=repr(error))
            self._give_up(_FAULT)

    def _give_up(self, reason: str) -> None:
        self._failure = reason
        self._started.set()
        for stream in self._audience.streams:
            stream.finish(End.GONE, reason)

    async def _read(self) -> None:
        while True:
            try:
                if not self._offsets:
                    start = await self._kind.start_offsets(self.info)
                    self._offsets = dict(self._first if start is None else start)
                    self._started.set()
                async with self.open(self._offsets) as log:
                    await self._read_on(log)
            except Unavailable as error:
                _log.warning("stream_waits_for_kafka", kind=self._kind.name, error=error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read_on(self, log: StreamReader) -> None:
        # A partition whose fold is behind waits by itself: it is not read on meanwhile, the others are.
        preparing: dict[Partition, asyncio.Task[None]] = {}
        try:
            while True:
                for where in [where for where, task in preparing.items() if task.done()]:
                    preparing.pop(where).result()
                free = self._offsets.keys() - preparing.keys()
                if not free:
                    await asyncio.wait(preparing.values(), return_when=asyncio.FIRST_COMPLETED)
                    continue
                stretches = await log.read(free, _BUSY_WAIT_SECONDS if preparing else FETCH_WAIT_SECONDS)
                for where, stretch in stretches.items():
                    preparing[where] = asyncio.create_task(self._prepare_and_add(where, stretch))
                # A busy log must not keep the streams from sending.
                await asyncio.sleep(0)
        finally:
            for task in preparing.values():
                task.cancel()
            await asyncio.gather(*preparing.values(), return_exceptions=True)

    async def _prepare_and_add(self, where: Partition, stretch: Stretch) -> None:
        start, self._offsets[where] = self._offsets[where], stretch.next_offset
        # A stream that joins from now on is past this stretch, or catches up with it alone.
        streams = tuple(self._audience.streams)
        try:
            items = await self._kind.prepare(self.info, where, stretch, self._audience)
        except BaseException:
            self._offsets[where] = start
            raise
        for stream in streams:
            if stream in self._audience.streams:
                stream.add(where, items, stretch.next_offset)
