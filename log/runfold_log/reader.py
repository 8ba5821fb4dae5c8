"""The one consumer of the log: every workaround for aiokafka's ways of reading is here."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import OffsetAndMetadata, TopicPartition

from runfold_schemas.codec.record import Raw
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import full_name

from .bounded_consumer import BoundedConsumer
from .cluster import KafkaCluster
from .errors import OffsetNotHeld
from .kafka_errors import kafka_errors

FETCH_WAIT_SECONDS = 0.5
"""How long a broker holds a fetch that finds nothing: an idle partition costs two requests a second."""
MAX_RECORDS = 500
"""Records of one read: few enough to stay in the processor's caches while they are decoded."""
_FETCH_BYTES = 1024 * 1024
_REQUEST_SECONDS = 40.0
_START_GRACE_SECONDS = 2.0
"""How long a start may go on after its caller was cancelled."""
_STOP_SECONDS = 5.0
"""How long closing connections may take. It needs no answer from a broker, so more means that something hangs."""
_BROKEN_HEADER = "a header's name is not UTF-8, in this record or before it in its producer's batch"


class Stretch(NamedTuple):
    """Consecutive records of a partition, perhaps none, and the offset after them."""

    raws: list[Raw]
    next_offset: int


class LogReader:
    """Reads partitions of one namespace's log, with a consumer of its own.

    An async context manager; one caller at a time.

    Every method raises LogUnavailable on Kafka's errors. A record that aiokafka can't decode is returned with
    `Raw.broken` set, never skipped.
    """

    def __init__(
        self,
        kafka: KafkaCluster,
        namespace: str,
        *,
        fetch_wait: float = FETCH_WAIT_SECONDS,
        fetch_bytes: int = _FETCH_BYTES,
        request_timeout: float = _REQUEST_SECONDS,
        retry_ms: int = 100,
        client_id: str = "runfold",
        group: str | None = None,
    ) -> None:
        """Times are in seconds. `fetch_bytes` bounds a fetch of one partition; a larger record comes alone.

        `group` is only needed to publish offsets.
        """
        self._kafka, self._namespace = kafka, namespace
        self._options: dict[str, Any] = {
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "none" if group is None else "latest",
            "fetch_max_wait_ms": int(fetch_wait * 1000),
            "max_partition_fetch_bytes": fetch_bytes,
            "request_timeout_ms": int(request_timeout * 1000),
            "retry_backoff_ms": retry_ms,
            "client_id": client_id,
        }
        self._consumer: Any = None
        self._partitions: dict[TopicPartition, Partition] = {}
        self._next: dict[Partition, int] = {}
        """Offsets after the records that were returned. aiokafka's own position is lost when it fails to decode a
        record.
        """

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect. Leaves no connection behind when it fails or is cancelled."""
        with kafka_errors(self._kafka):
            self._consumer = BoundedConsumer(**self._kafka.options(), **self._options)
            try:
                await _finish(self._consumer.start(), after_cancel=_START_GRACE_SECONDS)
            except BaseException:
                await self.stop()
                raise

    async def stop(self) -> None:
        """Close the connections, also when the caller is cancelled meanwhile."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _finish(_stop(consumer), after_cancel=_STOP_SECONDS, within=_STOP_SECONDS)

    def assign(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on, instead of those before."""
        self._partitions = {self._target(where): where for where in offsets}
        with kafka_errors(self._kafka):
            self._consumer.assign(list(self._partitions))
            for where, offset in offsets.items():
                self._seek(where, offset)
        self._next = dict(offsets)

    async def assign_held(self, offsets: Mapping[Partition, int]) -> None:
        """`assign`, but OffsetNotHeld at once if the log does not hold one of the offsets."""
        # Before they are assigned: these requests open the connection that fetches use, too.
        first, end = await self.first_offsets(offsets), await self.end_offsets(offsets)
        for where, offset in offsets.items():
            if not first[where] <= offset <= end[where]:
                raise OffsetNotHeld(f"the log holds offsets {first[where]} to {end[where]} of {where}, not {offset}")
        self.assign(offsets)

    def seek(self, where: Partition, offset: int) -> None:
        """Continue a partition, assigned or not, from this offset."""
        if where not in self._next:
            self.assign({**self._next, where: offset})
            return
        with kafka_errors(self._kafka):
            self._seek(where, offset)
        self._next[where] = offset

    async def read(
        self, among: Collection[Partition] | None = None, *, wait: float = FETCH_WAIT_SECONDS, most: int = MAX_RECORDS
    ) -> dict[Partition, Stretch]:
        """The next records of these partitions, `most` in all; only those that moved.

        Waits up to `wait` seconds for the first.

        OffsetNotHeld if the log no longer holds what comes next.
        """
        partitions = self._next.keys() if among is None else among
        targets = [self._target(where) for where in partitions]
        found = {}
        with kafka_errors(self._kafka):
            try:
                batches = await self._consumer.getmany(*targets, timeout_ms=int(wait * 1000), max_records=most)
            except UnicodeDecodeError:
                found = await self._read_up_to_broken(partitions, wait, most)
            else:
                for target, where in zip(targets, partitions, strict=True):
                    raws = [Raw.of(where.topic, message) for message in batches.get(target, ())]
                    # Kafka's own records, such as a transaction's markers, take offsets too.
                    next_offset = int(await self._consumer.position(target))
                    if next_offset > self._next[where]:
                        found[where] = Stretch(raws, next_offset)
        for where, stretch in found.items():
            self._next[where] = stretch.next_offset
        return found

    async def _read_up_to_broken(
        self, partitions: Collection[Partition], wait: float, most: int
    ) -> dict[Partition, Stretch]:
        """Read after aiokafka failed to decode a header's name as UTF-8.

        It then drops what it had read, and can't return the record nor what follows it in its producer's batch. So
        records are read one by one from where the last read ended, and each that fails is returned as broken. Only
        foreign producers write such records.
        """
        for where in partitions:
            self._seek(where, self._next[where])
        ends = await self.end_offsets(partitions)
        found = {}
        for where in partitions:
            if self._next[where] >= ends[where]:
                continue
            stretch = await self._read_one_by_one(where, wait, most)
            if stretch.next_offset > self._next[where]:
                found[where] = stretch
        return found

    async def _read_one_by_one(self, where: Partition, wait: float, most: int) -> Stretch:
        target = self._target(where)
        raws: list[Raw] = []
        while len(raws) < most:
            try:
                batches = await self._consumer.getmany(target, timeout_ms=int(wait * 1000), max_records=1)
            except UnicodeDecodeError:
                offset = int(await self._consumer.position(target))
                self._seek(where, offset + 1)
                time_ms = raws[-1].timestamp_ms if raws else 0
                raws.append(Raw(Position(*where, offset), time_ms, None, None, (), _BROKEN_HEADER))
                return Stretch(raws, offset + 1)
            if not batches:
                break
            raws += [Raw.of(where.topic, message) for message in batches[target]]
        return Stretch(raws, int(await self._consumer.position(target)))

    async def read_range(self, where: Partition, start: int = 0) -> AsyncIterator[Raw]:
        """Records of a partition from `start`, or the first offset that is held, to its end as of this call."""
        (first,), (end,) = (await self.first_offsets([where])).values(), (await self.end_offsets([where])).values()
        start = max(start, first)
        if start >= end:
            return
        self.assign({where: start})
        while self._next[where] < end:
            stretches = await self.read(wait=1.0)
            for raw in stretches[where].raws if stretches else ():
                if raw.position.offset >= end:
                    return
                yield raw

    async def first_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset that the log holds of each partition."""
        targets = {where: self._target(where) for where in partitions}
        with kafka_errors(self._kafka):
            found = await self._consumer.beginning_offsets(list(targets.values()))
        return {where: found[target] for where, target in targets.items()}

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The end offset of each partition: that of its next record.

        A consumer that waits for a fetch answers only after it: ask one that fetches nothing where time counts.
        """
        targets = {where: self._target(where) for where in partitions}
        with kafka_errors(self._kafka):
            found = await self._consumer.end_offsets(list(targets.values()))
        return {where: found[target] for where, target in targets.items()}

    async def offsets_at(self, time_ms: int, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset of each partition whose broker time is `time_ms` or later; its end offset where there is
        none.
        """
        targets = {where: self._target(where) for where in partitions}
        # Ends first: what is appended between the two requests counts as later.
        ends = await self.end_offsets(targets)
        with kafka_errors(self._kafka):
            found = await self._consumer.offsets_for_times(dict.fromkeys(targets.values(), time_ms))
        later = {where: found.get(target) for where, target in targets.items()}
        return {where: end if (at := later[where]) is None else min(end, at.offset) for where, end in ends.items()}

    async def position(self, where: Partition) -> int:
        """The offset of an assigned partition that the next read begins at."""
        with kafka_errors(self._kafka):
            return int(await self._consumer.position(self._target(where)))

    async def publish_offsets(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets under this reader's group, for lag monitors that look there.

        The reader then fetches nothing.
        """
        targets = {self._target(where): offset for where, offset in offsets.items()}
        with kafka_errors(self._kafka):
            if self._consumer.assignment() != targets.keys():
                self._consumer.assign(list(targets))
                self._consumer.pause(*targets)
            await self._consumer.commit({target: OffsetAndMetadata(offset, "") for target, offset in targets.items()})

    def _seek(self, where: Partition, offset: int) -> None:
        self._consumer.seek(self._target(where), offset)

    def _target(self, where: Partition) -> TopicPartition:
        return TopicPartition(full_name(self._namespace, where.topic), where.partition)


async def _stop(consumer: Any) -> None:
    # aiokafka's stop awaits tasks that it cancels; one that never ran would raise its CancelledError here, over our own
    # error.
    await asyncio.sleep(0)
    await consumer.stop()


async def _finish(work: Coroutine[Any, Any, None], *, after_cancel: float, within: float | None = None) -> None:
    """Run to its end, however often the caller is cancelled: half open or half closed, aiokafka leaves a connection
    behind.

    After the first cancellation it gets `after_cancel` seconds more; `within` bounds it in any case. What is not done
    then is cancelled.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    deadline = None if within is None else loop.time() + within
    cancelled = False
    while not task.done() and (deadline is None or loop.time() < deadline):
        try:
            await asyncio.wait([task], timeout=None if deadline is None else deadline - loop.time())
        except asyncio.CancelledError:
            if not cancelled:
                cancelled, deadline = True, loop.time() + after_cancel
    if not task.done():
        task.cancel()
        task.add_done_callback(_retrieve)
    elif cancelled:
        _retrieve(task)
    else:
        task.result()
    if cancelled:
        raise asyncio.CancelledError


def _retrieve(task: asyncio.Task[None]) -> None:
    # Nobody waits for this error any more; asyncio would complain about it.
    if not task.cancelled():
        task.exception()
