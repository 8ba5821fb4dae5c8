"""The process's writer of the log: sequences, envelopes, one sender for latency and one for bulk."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import Envelope
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic, partition_count, partition_of

from .admin import LogInfo, open_log
from .cluster import KafkaCluster
from .errors import LogMismatch, LogNotCreated, LogUnavailable
from .producer import RecordSender
from .sequencer import Sequencer

BULK_LINGER_MS = 20
_RETRY_CONNECT_AFTER = 0.5


@dataclass(frozen=True, slots=True)
class Appended:
    """An acknowledged append; `time_ms` is the event's own time."""

    position: Position
    event_id: str
    time_ms: int


class LogWriter:
    """Appends events to one namespace's log. Connects on first use and again after it was lost.

    Use as an async context manager. One per process: it is one writer, whose sequences count per (topic, entity).
    """

    def __init__(
        self, kafka: KafkaCluster, namespace: str, *, timeout: float = 10.0, node: str = "", ids: Ids | None = None
    ) -> None:
        self._kafka, self._namespace, self._timeout = kafka, namespace, timeout
        self._ids = ids or Ids()
        self._sequencer = Sequencer(self._ids, node=node)
        self._connecting = asyncio.Lock()
        self._stack: AsyncExitStack | None = None
        self._fast: RecordSender | None = None
        self._bulk: RecordSender | None = None
        self._info: LogInfo | None = None
        self._failed_at = -1e9
        self._failure = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disconnect()

    async def connect(self) -> LogInfo:
        """Facts of the log, connecting if need be. LogUnavailable, LogNotCreated or LogMismatch if that fails."""
        if self._info is not None:
            return self._info
        if time.monotonic() - self._failed_at < _RETRY_CONNECT_AFTER:
            raise LogUnavailable(self._failure)
        async with self._connecting:
            if self._info is None:
                try:
                    async with asyncio.timeout(self._timeout):
                        await self._connect()
                except (TimeoutError, LogUnavailable, OSError) as error:
                    self._failed_at = time.monotonic()
                    reason = error.reason if isinstance(error, LogUnavailable) else error or "no answer in time"
                    self._failure = f"Kafka at {self._kafka} does not answer: {reason}"
                    raise LogUnavailable(self._failure) from error
        assert self._info is not None
        return self._info

    async def _connect(self) -> None:
        info = await open_log(self._kafka, self._namespace)
        async with AsyncExitStack() as stack:
            fast = await stack.enter_async_context(
                RecordSender(self._kafka, self._namespace, linger_ms=0, timeout=self._timeout)
            )
            bulk = await stack.enter_async_context(
                RecordSender(self._kafka, self._namespace, linger_ms=BULK_LINGER_MS, timeout=self._timeout)
            )
            self._stack = stack.pop_all()
        self._fast, self._bulk, self._info = fast, bulk, info

    async def _disconnect(self) -> None:
        stack, self._stack, self._info = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    async def append(
        self,
        event: Event,
        *,
        workspace: str = DEFAULT_WORKSPACE,
        actor: str = "anonymous",
        correlation_id: str = "",
        traceparent: str = "",
        bulk: bool = False,
    ) -> Appended:
        """Append one event of ours and wait for the acknowledgement.

        Raises LogUnavailable (not acknowledged, may still take effect), Backpressure (nothing sent), and
        runfold_schemas' BadEvent if the event breaks the contract.
        """
        info = await self.connect()
        topic = topic_of(event)
        entity = event.entity or workspace
        value = wire.encode(event, info.level)
        writer, number = self._sequencer.next_number(topic, entity)
        envelope = Envelope(
            self._ids.event_id(),
            event.subject,
            self._ids.now_ms(),
            writer,
            number,
            workspace=workspace,
            actor=actor,
            correlation_id=correlation_id,
            traceparent=traceparent,
        )
        position = await self.append_raw(Outgoing(topic, entity.encode(), value, envelope.headers()), bulk=bulk)
        return Appended(position, envelope.event_id, envelope.time_ms)

    async def append_raw(self, record: Outgoing, *, bulk: bool = False) -> Position:
        """Append a ready record, whose writer and sequence pass through. Raises as `append` does."""
        info = await self.connect()
        sender = self._bulk if bulk else self._fast
        if sender is None:
            raise LogUnavailable(f"the connection to Kafka at {self._kafka} is being re-established")
        count = partition_count(record.topic, info.partitions)
        where = Partition(record.topic, partition_of(record.key, count))
        try:
            return await sender.send(where, record)
        except LogUnavailable as error:
            await self._renew_after(error)
            raise

    async def _renew_after(self, error: LogUnavailable) -> None:
        """Connect again as a new writer if the producer is lost."""
        if error.producer_lost and self._info is not None:
            self._sequencer.renew()
            await self._disconnect()

    @property
    def info(self) -> LogInfo | None:
        """Facts of the log, or None before the first connection."""
        return self._info


def topic_of(event: Event) -> Topic:
    """The one topic an event's type belongs on."""
    (topic,) = released_catalog().newest(event.subject).topics
    return topic


__all__ = ["Appended", "LogInfo", "LogMismatch", "LogNotCreated", "LogUnavailable", "LogWriter", "topic_of"]
