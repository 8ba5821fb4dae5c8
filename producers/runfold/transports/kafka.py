"""The Kafka transport: appends records without an API server. Imported only for `kafka://` tracking URIs.

A record counts as done when the brokers acknowledge it. The decisions of the folds are not known here, so an event that
they reject later, such as a changed param, causes no warning.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from runfold_log.admin import LogInfo, open_log
from runfold_log.cluster import KafkaCluster
from runfold_log.errors import LogMismatch, LogNotCreated, LogUnavailable
from runfold_log.producer import RecordSender
from runfold_schemas.codec.batch import Outgoing, decode_item
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.wire import schema_id_of
from runfold_schemas.errors import BadRecord, UndeclaredSchema
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import partition_count, partition_of

from .base import ExistingRun, Experiment, Misconfigured, ParentRun, RecordResult, Rejected, Transport, TryAgain

T = TypeVar("T")
_CONNECT_TIMEOUT_SECONDS = 10.0
_APPEND_TIMEOUT_SECONDS = 10.0
"""How long one call waits for the brokers before it reports them as unreachable. The append itself continues."""
_NO_GIVING_UP_SECONDS = 7 * 24 * 3600.0
_BULK_RECORDS = 16
"""From this many records on, a request uses the producer that lingers to fill its batches."""
_BULK_LINGER_MS = 5


class KafkaTransport:
    """Appends to one namespace's log, in its own event loop and thread. `api` looks up experiments and runs.

    aiokafka repeats an idempotent batch until the brokers have it. A request that takes too long is therefore not
    sent again: the next call with the same records waits for it. Memory holds one request, however long the brokers
    are away.
    """

    def __init__(self, uri: str, cluster: KafkaCluster, namespace: str, api: Transport) -> None:
        self.uri, self._cluster, self._namespace, self._api = uri, cluster, namespace, api
        self._loop = _ThreadlessLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runfold kafka", daemon=True)
        self._thread.start()
        self._stack: AsyncExitStack | None = None
        self._info: LogInfo | None = None
        self._fast: RecordSender | None = None
        self._bulk: RecordSender | None = None
        self._items: Sequence[bytes] = ()
        self._results: list[RecordResult] = []
        self._appending: asyncio.Task[None] | None = None
        # The sender warns once instead of aiokafka for every attempt. A level that the user has set stays.
        logger = logging.getLogger("aiokafka")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)

    def append(self, items: Sequence[bytes], *, outcome: bool) -> list[RecordResult]:
        """See Transport. The only outcome known here is the rejection of events beyond the log's feature level."""
        return self._run(self._append(items))

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """See Transport. Asks the API server."""
        return self._api.find_experiment(name, timeout)

    def find_run(self, run_id: str, timeout: float) -> ExistingRun | None:
        """See Transport. Asks the API server."""
        return self._api.find_run(run_id, timeout)

    def find_parent(self, run_id: str, timeout: float) -> ParentRun:
        """See Transport. Asks the API server."""
        return self._api.find_parent(run_id, timeout)

    def close(self) -> None:
        """See Transport."""
        try:
            self._run(self._disconnect())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            if not self._thread.is_alive():
                self._loop.close()
            self._api.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _append(self, items: Sequence[bytes]) -> list[RecordResult]:
        if self._appending is None or self._items != items:
            info = await self._connect()
            try:
                records = [decode_item(item) for item in items]
                self._results = [_check_level(record, info.level) for record in records]
            except (BadRecord, UndeclaredSchema) as error:
                raise Rejected(str(error)) from error
            self._items = list(items)
            allowed = [record for record, result in zip(records, self._results, strict=True) if not result.is_rejected]
            self._appending = self._loop.create_task(self._send(info, allowed))
        await asyncio.wait({self._appending}, timeout=_APPEND_TIMEOUT_SECONDS)
        if not self._appending.done():
            raise TryAgain(f"Kafka at {self._cluster} does not acknowledge the records")
        appending, self._appending = self._appending, None
        try:
            appending.result()
        except LogUnavailable as error:
            if error.producer_lost:
                await self._disconnect()
            raise TryAgain(str(error), error.retry_after) from error
        return self._results

    async def _send(self, info: LogInfo, records: Sequence[Outgoing]) -> None:
        sender = self._bulk if len(records) >= _BULK_RECORDS else self._fast
        assert sender is not None
        # Order matters within a partition only, so partitions are sent concurrently.
        lanes: dict[Partition, list[Outgoing]] = {}
        for record in records:
            lanes.setdefault(_partition(record, info), []).append(record)
        lanes_done = await asyncio.gather(
            *(sender.send_all(partition, lane) for partition, lane in lanes.items()), return_exceptions=True
        )
        for error in filter(None, lanes_done):
            raise error

    async def _connect(self) -> LogInfo:
        if self._info is not None:
            return self._info
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_SECONDS), AsyncExitStack() as stack:
                info = await open_log(self._cluster, self._namespace)
                senders = [
                    await stack.enter_async_context(
                        RecordSender(self._cluster, self._namespace, linger_ms=linger, patience=_NO_GIVING_UP_SECONDS)
                    )
                    for linger in (0, _BULK_LINGER_MS)
                ]
                self._stack = stack.pop_all()
        except (LogUnavailable, TimeoutError, OSError) as error:
            reason = error.reason if isinstance(error, LogUnavailable) else error or "no answer in time"
            raise TryAgain(f"Kafka at {self._cluster} does not answer: {reason}{self._cluster.hint()}") from error
        except (LogNotCreated, LogMismatch) as error:
            raise Misconfigured(str(error)) from error
        self._info, (self._fast, self._bulk) = info, senders
        return info

    async def _disconnect(self) -> None:
        stack, self._stack, self._info = self._stack, None, None
        if self._appending is not None:
            self._appending.cancel()
            await asyncio.gather(self._appending, return_exceptions=True)
            self._appending = None
        if stack is not None:
            await stack.aclose()


class _ThreadlessLoop(asyncio.SelectorEventLoop):
    """An event loop that runs executor jobs, such as name lookups and login steps, in its own thread.

    Executors accept no jobs while the interpreter shuts down, which is when a script's last points are sent. The jobs
    take a few milliseconds.
    """

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def _partition(record: Outgoing, info: LogInfo) -> Partition:
    return Partition(record.topic, partition_of(record.key, partition_count(record.topic, info.partitions)))


def _check_level(record: Outgoing, level: int) -> RecordResult:
    """Reject a record beyond the log's feature level, because workers of an older release can't decode it."""
    needed = released_catalog().get(schema_id_of(record.value)).level
    if needed <= level:
        return RecordResult("appended")
    message = f"it needs feature level {needed}, the log is at {level}: run `runfold upgrade`"
    return RecordResult("rejected", "feature_level", message)
