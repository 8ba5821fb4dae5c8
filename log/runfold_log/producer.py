"""One Kafka producer with the settings that measurements chose, and a bound on every wait."""

import asyncio
import functools
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.events.all_events import Event
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import full_name

from .cluster import KafkaCluster
from .errors import Backpressure, LogMismatch, LogUnavailable
from .kafka_errors import unavailable

MAX_BATCH_BYTES = 512 * 1024
MAX_MESSAGE_BYTES = 10 * 1024 * 1024
"""Largest batch of records that topics take, in bytes: a record of the largest size with its headers, not compressed.
"""
MOST_WAITING_BYTES = 64 * 1024 * 1024


class RecordSender:
    """Appends ready records: idempotent, `acks=all`, compressed.

    `linger_ms` 0 is for latency, 20 for bulk. With idempotence aiokafka retries a batch for ever, so the bound on a
    wait is ours; what was not acknowledged within it may still be appended later.
    """

    def __init__(
        self,
        kafka: KafkaCluster,
        namespace: str,
        *,
        linger_ms: int = 0,
        timeout: float = 10.0,
        patience: float | None = None,
    ) -> None:
        """`timeout` bounds a request to a broker; `patience` the wait for an acknowledgement, over all requests that it
        takes.
        """
        self._namespace = namespace
        self._timeout = timeout if patience is None else patience
        self._waiting = 0
        self._kafka = kafka
        self._producer: Any = AIOKafkaProducer(
            **kafka.options(),
            acks="all",
            enable_idempotence=True,
            linger_ms=linger_ms,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            # aiokafka asks lz4 for its level 9: 12 times as long for 400 kB of doubles, and more bytes.
            compression_type="zstd",
            request_timeout_ms=int(timeout * 1000),
            retry_backoff_ms=50,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise unavailable(self._kafka, error) from error
        except asyncio.CancelledError:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # stop() flushes, and flushing waits for as long as the broker is away.
        try:
            async with asyncio.timeout(2):
                await self._producer.stop()
        except TimeoutError:
            pass

    async def send(self, where: Partition, record: Outgoing) -> Position:
        """Append and wait for the acknowledgement.

        LogUnavailable after the time-out or on Kafka's error, Backpressure if too many bytes wait already,
        LogMismatch if the topic takes only smaller records.
        """
        size = len(record.value) + 512
        if self._waiting + size > MOST_WAITING_BYTES:
            raise Backpressure(f"{self._waiting} bytes wait for Kafka at {self._kafka}; nothing was sent")
        self._waiting += size
        try:
            async with asyncio.timeout(self._timeout):
                future = await self._producer.send(
                    full_name(self._namespace, where.topic),
                    record.value,
                    record.key or None,
                    partition=where.partition,
                    headers=list(record.headers),
                )
                # What waits is what Kafka was given, for however long the caller still waits for it.
                future.add_done_callback(functools.partial(self._done, size))
                size = 0
                done = await asyncio.shield(future)
        except TimeoutError:
            raise LogUnavailable(
                f"Kafka at {self._kafka} did not acknowledge within {self._timeout:g} s: "
                "not acknowledged, may still take effect"
            ) from None
        except MessageSizeTooLargeError as error:
            raise self._smaller_topic(where, error) from error
        except KafkaError as error:
            raise unavailable(self._kafka, error) from error
        finally:
            self._waiting -= size
        return Position(where.topic, where.partition, done.offset)

    async def send_all(self, where: Partition, records: Sequence[Outgoing]) -> None:
        """Append these in order and wait until all are acknowledged: batches are filled here, which costs a record a
        tenth of `send`.

        Raises as `send` does; then a beginning of them may have been appended, or yet be.
        """
        size = sum(len(record.value) + 512 for record in records)
        if self._waiting + size > MOST_WAITING_BYTES:
            raise Backpressure(f"{self._waiting} bytes wait for Kafka at {self._kafka}; nothing was sent")
        topic = full_name(self._namespace, where.topic)
        try:
            async with asyncio.timeout(self._timeout):
                for batch, used in self._batches(records):
                    future = await self._producer.send_batch(batch, topic, partition=where.partition)
                    self._waiting += used
                    future.add_done_callback(functools.partial(self._done, used))
                    # One after the other: a second one would be given up by aiokafka while the brokers are away, unlike
                    # the first.
                    await asyncio.shield(future)
        except TimeoutError:
            raise LogUnavailable(
                f"Kafka at {self._kafka} did not acknowledge within {self._timeout:g} s: "
                "not acknowledged, may still take effect"
            ) from None
        except MessageSizeTooLargeError as error:
            raise self._smaller_topic(where, error) from error
        except KafkaError as error:
            raise unavailable(self._kafka, error) from error

    def _batches(self, records: Sequence[Outgoing]) -> Iterator[tuple[Any, int]]:
        batch, used = self._producer.create_batch(), 0
        for record in records:
            key, headers = record.key or None, list(record.headers)
            if batch.append(timestamp=None, key=key, value=record.value, headers=headers) is None:
                yield batch, used
                batch, used = self._producer.create_batch(), 0
                batch.append(timestamp=None, key=key, value=record.value, headers=headers)
            used += len(record.value) + 512
        if used:
            batch.close()
            yield batch, used

    def _smaller_topic(self, where: Partition, error: KafkaError) -> LogMismatch:
        topic = full_name(self._namespace, where.topic)
        return LogMismatch(
            f"topic {topic} takes smaller records than this release writes ({error}): run `runfold topics create`, "
            f"or set its max.message.bytes to {MAX_MESSAGE_BYTES}"
        )

    def _done(self, size: int, future: asyncio.Future[Any]) -> None:
        self._waiting -= size
        if not future.cancelled():
            future.exception()  # asked for, or asyncio complains of it after the caller's time-out

    async def send_event(
        self, where: Partition, key: str | None, event: Event, ids: Ids, writer: Writer, sequence: int, level: int = 1
    ) -> Position:
        """Encode and append an event under a plain envelope."""
        envelope = Envelope(ids.event_id(), event.subject, ids.now_ms(), writer, sequence)
        value = wire.encode(event, level)
        return await self.send(where, Outgoing(where.topic, (key or "").encode(), value, envelope.headers()))
