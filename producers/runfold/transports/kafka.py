"""Straight to Kafka: the SDK's transport without an API server in between. Imported only where a `kafka://` address is used.

Appended means acknowledged: what a fold makes of a fact can't be known here, so a param that would change is not told of.
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

from .base import Experiment, KnownRun, Never, Parent, Result, Transport, TryAgain

T = TypeVar("T")
_CONNECT_TIMEOUT = 10.0
_LOOK_AGAIN = 10.0
_FOR_EVER = 7 * 24 * 3600.0
_BULK_FROM = 16
_BULK_LINGER_MS = 5


class KafkaTransport:
    """Appends to one namespace's log, in an event loop of its own. `api` answers for experiments.

    aiokafka repeats an idempotent batch until the brokers have it, so a request that takes too long is not sent again: the next
    call with the same records waits for it. Memory holds one request, however long the brokers are away.
    """

    def __init__(self, uri: str, kafka: KafkaCluster, namespace: str, api: Transport) -> None:
        self.uri, self._kafka, self._namespace, self._api = uri, kafka, namespace, api
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runfold kafka", daemon=True)
        self._thread.start()
        self._stack: AsyncExitStack | None = None
        self._info: LogInfo | None = None
        self._fast: RecordSender | None = None
        self._bulk: RecordSender | None = None
        self._items: Sequence[bytes] = ()
        self._results: list[Result] = []
        self._appending: asyncio.Task[None] | None = None
        # What aiokafka says of every attempt, our one warning says for all; who wants it sets the level.
        logger = logging.getLogger("aiokafka")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)

    def append(self, items: Sequence[bytes], *, outcome: bool) -> list[Result]:
        """See Transport.append; `outcome` is not known here, but that what is beyond the log's feature level is rejected."""
        return self._run(self._append(items))

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """See Transport.find_experiment; the API is asked."""
        return self._api.find_experiment(name, timeout)

    def find_run(self, run_id: str, timeout: float) -> KnownRun | None:
        """See Transport.find_run; the API is asked."""
        return self._api.find_run(run_id, timeout)

    def find_parent(self, run_id: str, timeout: float) -> Parent:
        """See Transport.find_parent; the API is asked."""
        return self._api.find_parent(run_id, timeout)

    def close(self) -> None:
        """See Transport.close."""
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

    async def _append(self, items: Sequence[bytes]) -> list[Result]:
        if self._appending is None or self._items != items:
            info = await self._connect()
            try:
                records = [decode_item(item) for item in items]
                self._results = [_allowed(record, info.level) for record in records]
            except (BadRecord, UndeclaredSchema) as error:
                raise Never(str(error)) from error
            self._items = list(items)
            allowed = [record for record, result in zip(records, self._results, strict=True) if not result.refused]
            self._appending = self._loop.create_task(self._send(info, allowed))
        await asyncio.wait({self._appending}, timeout=_LOOK_AGAIN)
        if not self._appending.done():
            raise TryAgain(f"Kafka at {self._kafka} does not acknowledge")
        appending, self._appending = self._appending, None
        try:
            appending.result()
        except LogUnavailable as error:
            if error.producer_lost:
                await self._disconnect()
            raise TryAgain(str(error), error.retry_after) from error
        return self._results

    async def _send(self, info: LogInfo, records: Sequence[Outgoing]) -> None:
        sender = self._bulk if len(records) >= _BULK_FROM else self._fast
        assert sender is not None
        # Order counts within a partition only: the others need not wait for it.
        lanes: dict[Partition, list[Outgoing]] = {}
        for record in records:
            lanes.setdefault(_place(record, info), []).append(record)
        lanes_done = await asyncio.gather(
            *(sender.send_all(where, lane) for where, lane in lanes.items()), return_exceptions=True
        )
        for error in filter(None, lanes_done):
            raise error

    async def _connect(self) -> LogInfo:
        if self._info is not None:
            return self._info
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT), AsyncExitStack() as stack:
                info = await open_log(self._kafka, self._namespace)
                senders = [
                    await stack.enter_async_context(
                        RecordSender(self._kafka, self._namespace, linger_ms=linger, patience=_FOR_EVER)
                    )
                    for linger in (0, _BULK_LINGER_MS)
                ]
                self._stack = stack.pop_all()
        except (LogUnavailable, TimeoutError, OSError) as error:
            reason = error.reason if isinstance(error, LogUnavailable) else error or "no answer in time"
            raise TryAgain(f"Kafka at {self._kafka} does not answer: {reason}{self._kafka.hint()}") from error
        except (LogNotCreated, LogMismatch) as error:
            raise Never(str(error), about_records=False) from error
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


class _Loop(asyncio.SelectorEventLoop):
    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """In this thread: an executor takes nothing more when the interpreter ends, which is when a script's last points are sent.

        A name is looked up here, and each step of a login, which takes some milliseconds, is made here.
        """
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def _place(record: Outgoing, info: LogInfo) -> Partition:
    return Partition(record.topic, partition_of(record.key, partition_count(record.topic, info.partitions)))


def _allowed(record: Outgoing, level: int) -> Result:
    """Older workers would not know a schema beyond the log's feature level."""
    needed = released_catalog().get(schema_id_of(record.value)).level
    if needed <= level:
        return Result("appended")
    message = f"it needs feature level {needed}, the log is at {level}: run `runfold upgrade`"
    return Result("rejected", "feature_level", message)
