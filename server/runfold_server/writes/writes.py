"""Writes: append an event, and where a fold may reject it, wait for the outcome."""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from runfold_log.writer import Appended, LogWriter, topic_of
from runfold_projections.operations.outcomes import RejectedEvent, read_rejection
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.positions.position import Position
from runfold_server.core.errors import Unavailable
from runfold_server.core.metrics import ServerMetrics
from runfold_server.core.outages import kafka_outages
from runfold_server.reads.reader import FoldsBehind, Query, Reader

T = TypeVar("T")
MAY_TAKE_EFFECT = "The write is in the log but its outcome is not known yet: not acknowledged, may still take effect."
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class WriteOrigin:
    """Where a write comes from: the fields of the envelope that a request sets."""

    workspace: str = DEFAULT_WORKSPACE
    actor: str = "anonymous"
    correlation_id: str = ""
    traceparent: str = ""

    @classmethod
    def from_headers(cls, header: Callable[[str], str | None]) -> "WriteOrigin":
        """Read a request's headers `traceparent` (W3C) and `x-request-id`; malformed ones are left out."""
        trace, request = header("traceparent") or "", header("x-request-id") or ""
        return cls(
            correlation_id=request if _REQUEST_ID.fullmatch(request) else "",
            traceparent=trace if _TRACEPARENT.fullmatch(trace) else "",
        )


class RejectedWrite(Exception):
    """A fold rejected the event, or its record went to the dead letters. Each API has its own message for it."""

    def __init__(self, event: Event, rejection: RejectedEvent) -> None:
        super().__init__(rejection.message)
        self.event = event
        self.rejection = rejection


class Writes:
    """Appends through the process's one writer.

    Never sends an event twice: a failed append burns its sequence number.
    """

    def __init__(self, log: LogWriter, reader: Reader, metrics: ServerMetrics) -> None:
        self._log, self._reader, self._metrics = log, reader, metrics

    async def append(self, event: Event, origin: WriteOrigin, *, bulk: bool = False) -> Appended:
        """Append, and return when it is acknowledged.

        Unavailable if it is not (it may still take effect), InvalidParameter if the event breaks the contract's bounds.
        """
        with kafka_outages(), self._metrics.append(topic_of(event).value):
            return await self._log.append(
                event,
                workspace=origin.workspace,
                actor=origin.actor,
                correlation_id=origin.correlation_id,
                traceparent=origin.traceparent,
                bulk=bulk,
            )

    async def append_raw(self, record: Outgoing, *, bulk: bool) -> Position:
        """Append a checked record of a native client, whose writer and sequence pass through. Raises as `append`."""
        with kafka_outages(), self._metrics.append(record.topic.value):
            return await self._log.append_raw(record, bulk=bulk)

    async def append_and_wait(self, event: Event, origin: WriteOrigin) -> Appended:
        """Append, and return when the fold has accepted the event.

        RejectedWrite if it has not; Unavailable as for `append`, and if the outcome is not known in time.
        """
        appended = await self.append(event, origin)
        await self._accepted(event, lambda: self._reader.outcome(appended.position))
        return appended

    async def append_wait_query(self, event: Event, origin: WriteOrigin, query: Callable[[Appended], Query[T]]) -> T:
        """`append_and_wait`, and what the query then finds.

        Only for a query of one statement: it has no transaction.
        """
        appended = await self.append(event, origin)
        return await self._accepted(event, lambda: self._reader.outcome(appended.position, query(appended)))

    async def append_and_read(self, event: Event, origin: WriteOrigin, query: Callable[[Appended], Query[T]]) -> T:
        """`append_and_wait`, and what the query finds in a transaction that shows the event's outcome."""
        appended = await self.append(event, origin)
        position = appended.position

        async def read(connection: Connection) -> RejectedEvent | T:
            rejection = await read_rejection(connection, position)
            return rejection if rejection is not None else await query(appended)(connection)

        async def outcome() -> RejectedEvent | T:
            return (await self._reader.read_after({position.where: position.offset + 1}, read)).value

        return await self._accepted(event, outcome)

    async def _accepted(self, event: Event, outcome: Callable[[], Awaitable[RejectedEvent | T]]) -> T:
        began = time.perf_counter()
        try:
            answer = await outcome()
        except FoldsBehind as error:
            raise FoldsBehind(f"{MAY_TAKE_EFFECT} {error.message}") from error
        except Unavailable as error:
            raise Unavailable(f"{MAY_TAKE_EFFECT} {error.message}", error.retry_after) from error
        self._metrics.outcome(time.perf_counter() - began)
        if isinstance(answer, RejectedEvent):
            self._metrics.rejected(answer.code)
            raise RejectedWrite(event, answer)
        return answer
