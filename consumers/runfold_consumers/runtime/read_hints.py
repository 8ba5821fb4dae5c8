"""Read hints: while a strong read waits for a partition, its fold commits at once instead of gathering records."""

import asyncio
import contextlib

import structlog

from runfold_projections.postgres.connection import open_connection
from runfold_projections.postgres.notifications import listen_for_positions, read_hint_channel
from runfold_schemas.positions.position import Partition

from .backoff import Backoff
from .errors import SERVICE_ERRORS

_log = structlog.get_logger(__name__)


class ReadHints:
    """End offsets that readers wait for, per partition.

    They are hints: a lost one only delays a commit by one pause.
    """

    def __init__(self) -> None:
        self._end_offsets: dict[Partition, int] = {}
        self._pausing: dict[Partition, asyncio.Event] = {}

    def record(self, where: Partition, end_offset: int) -> None:
        """Register that a reader waits until `where` is folded up to `end_offset`; ends the partition's pause."""
        if end_offset > self._end_offsets.get(where, 0):
            self._end_offsets[where] = end_offset
            if where in self._pausing:
                self._pausing[where].set()

    async def pause_unless_needed(self, where: Partition, next_offset: int, seconds: float) -> None:
        """Return after `seconds`, or as soon as a reader needs more than is folded below `next_offset`."""
        if self._end_offsets.get(where, 0) > next_offset:
            return
        needed = self._pausing[where] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await needed.wait()

    async def receive(self, dsn: str, namespace: str) -> None:
        """Receive hints until cancelled; reconnects when the connection is lost."""
        backoff = Backoff()
        while True:
            try:
                await self.listen(dsn, namespace)
                backoff.reset()
            except SERVICE_ERRORS as error:
                # The lease keeper reports the outage. Until the connection is back, readers wait one pause longer.
                _log.debug("read_hints_unavailable", error=str(error))
            await backoff.pause()

    async def listen(self, dsn: str, namespace: str) -> None:
        """Receive hints until the connection is lost."""
        async with open_connection(dsn, namespace, application="runfold worker read hints") as connection:
            lost = await listen_for_positions(connection, read_hint_channel(namespace), self.record)
            await lost.wait()
