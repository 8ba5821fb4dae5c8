"""Writes: append an event, and where a fold may refuse it, wait for the outcome."""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from runfold_log.writer import Appended, LogWriter, topic_of
from runfold_projections.operations.outcomes import Refused, refusal
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.positions.position import Position
from runfold_server.core.errors import Unavailable
from runfold_server.core.metrics import ServerMetrics
from runfold_server.core.outages import kafka_outages
from runfold_server.reads.reader import Behind, Query, Reader

T = TypeVar("T")
MAY_TAKE_EFFECT = "The write is in the log but its outcome is not known yet: not acknowledged, may still take effect."
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a write comes from: what the envelope says beside the event."""

    workspace: str = DEFAULT_WORKSPACE
    actor: str = "anonymous"
    correlation_id: str = ""
    traceparent: str = ""

    @classmethod
    def of(cls, header: Callable[[str], str | None]) -> "Origin":
        """From a request's headers `traceparent` (W3C) and `x-request-id`; malformed ones are left out."""
        trace, request = header("traceparent") or "", header("x-request-id") or ""
        return cls(
            correlation_id=request if _REQUEST_ID.fullmatch(request) else "",
            traceparent=trace if _TRACEPARENT.fullmatch(trace) else "",
        )


class RefusedWrite(Exception):
    """A fold refused the event, or it was set aside. APIs say so in their own words."""

    def __init__(self, event: Event, refused: Refused) -> None:
        super().__init__(refused.message)
        self.event = event
        self.refused = refused


class Writes:
    """Appends through the process's one writer. Never sends an event twice: a failed append burns its sequence number."""

    def __init__(self, log: LogWriter, reader: Reader, observed: ServerMetrics) -> None:
        self._log, self._reader, self._observed = log, reader, observed

    async def append(self, event: Event, origin: Origin, *, bulk: bool = False) -> Appended:
        """Append and return when it is acknowledged.

        Unavailable if it was not (it may still take effect), InvalidParameter if the event breaks the contract's bounds.
        """
        with kafka_outages(), self._observed.append(topic_of(event).value):
            return await self._log.append(
                event,
                workspace=origin.workspace,
                actor=origin.actor,
                correlation_id=origin.correlation_id,
                traceparent=origin.traceparent,
                bulk=bulk,
            )

    async def append_raw(self, record: Outgoing, *, bulk: bool) -> Position:
        """Append a checked record of a native client, whose writer and sequence pass through. Raises as `append` does."""
        with kafka_outages(), self._observed.append(record.topic.value):
            return await self._log.append_raw(record, bulk=bulk)

    async def decide(self, event: Event, origin: Origin, then: Callable[[Appended], Query[T]]) -> T:
        """Append, wait until the fold has decided, and answer from the same snapshot.

        RefusedWrite if the fold refused it; Unavailable as for `append`, and if the outcome is not known in time.
        """
        appended = await self.append(event, origin)
        position = appended.position

        async def found(connection: Connection) -> Refused | T:
            refused = await refusal(connection, position)
            return refused if refused is not None else await then(appended)(connection)

        async def ask() -> Refused | T:
            return (await self._reader.at({position.where: position.offset + 1}, found)).value

        return await self._told(event, ask)

    async def decided(self, event: Event, origin: Origin) -> Appended:
        """`decide` for a write that answers nothing but what was asked."""
        appended = await self.append(event, origin)
        await self._told(event, lambda: self._reader.outcome(appended.position))
        return appended

    async def decided_then(self, event: Event, origin: Origin, then: Callable[[Appended], Query[T]]) -> T:
        """`decide` for an answer that one statement finds: cheaper, as it needs no snapshot."""
        appended = await self.append(event, origin)
        return await self._told(event, lambda: self._reader.outcome_then(appended.position, then(appended)))

    async def _told(self, event: Event, ask: Callable[[], Awaitable[Refused | T]]) -> T:
        began = time.perf_counter()
        try:
            answer = await ask()
        except Behind as error:
            raise Behind(f"{MAY_TAKE_EFFECT} {error.message}") from error
        except Unavailable as error:
            raise Unavailable(f"{MAY_TAKE_EFFECT} {error.message}", error.retry_after) from error
        self._observed.outcome(time.perf_counter() - began)
        if isinstance(answer, Refused):
            self._observed.rejected(answer.code)
            raise RefusedWrite(event, answer)
        return answer
