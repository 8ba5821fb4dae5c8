"""How far the folds are: checkpoints as workers announce them. Only hints; rows are trusted in transactions alone."""

import asyncio
from collections.abc import Mapping
from heapq import heappop, heappush

import structlog

from runfold_projections.postgres.connection import open_connection
from runfold_projections.postgres.notifications import listen_for_generations, listen_for_positions, progress_channel
from runfold_projections.postgres.read_transaction import checkpoints
from runfold_schemas.positions.position import Partition
from runfold_server.core.errors import Unavailable
from runfold_server.core.outages import postgres_outages

POLL_SECONDS = 0.25
"""After this time a waiter looks for itself, in case a notice was lost."""
_DEAF_POLL_SECONDS = 0.05
"""The same while there is no connection to hear notices on."""
_RECONNECT_SECONDS = (0.1, 2.0)
"""The first and the longest pause before the next connection."""

_log = structlog.get_logger(__name__)


class FoldProgress:
    """Wakes those who wait for a checkpoint.

    `version` counts notices. `listening` is False while there is no connection to hear them on. `switches` counts the
    times when generations may have been switched, so that other tables are read since.
    """

    def __init__(self) -> None:
        self.known: dict[Partition, int] = {}
        self.version = 0
        self.switches = 0
        self.listening = False
        self._waiting: dict[Partition, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._noticed = asyncio.Event()
        self._ticket = 0

    def record(self, where: Partition, next_offset: int) -> None:
        """Record a checkpoint of a notice, and wake those who wait for it."""
        self.version += 1
        self._noticed.set()
        self._noticed.clear()
        if next_offset <= self.known.get(where, 0):
            return
        self.known[where] = next_offset
        waiting = self._waiting.get(where)
        while waiting and waiting[0][0] <= next_offset:
            _, _, waiter = heappop(waiting)
            if not waiter.done():
                waiter.set_result(None)

    def record_switch(self) -> None:
        """Record that generations were switched, or may have been."""
        self.switches += 1

    async def wait_until(self, ends: Mapping[Partition, int], timeout: float) -> None:
        """Return when notices have reached all these end offsets, after `timeout` seconds, or at once while nobody
        listens.
        """
        if not self.listening:
            return
        try:
            async with asyncio.timeout(timeout):
                for where, end in ends.items():
                    if self.known.get(where, 0) < end:
                        await self._wait(where, end)
        except TimeoutError:
            pass

    async def _wait(self, where: Partition, end: int) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ticket += 1
        heappush(self._waiting.setdefault(where, []), (end, self._ticket, waiter))
        await waiter

    async def wait_for_notice(self, since: int, timeout: float) -> None:
        """Return when a notice came after version `since`, or after a poll's time, at most `timeout` seconds."""
        if self.version != since:
            return
        try:
            async with asyncio.timeout(min(timeout, POLL_SECONDS if self.listening else _DEAF_POLL_SECONDS)):
                await self._noticed.wait()
        except TimeoutError:
            pass


async def listen(progress: FoldProgress, dsn: str, namespace: str) -> None:
    """Hear notices until cancelled. Connects again, with growing pauses, when the connection is lost."""
    pause, longest = _RECONNECT_SECONDS
    while True:
        try:
            with postgres_outages():
                await _hear(progress, dsn, namespace)
            pause = _RECONNECT_SECONDS[0]
        except Unavailable as error:
            _log.warning("progress_notices_lost", error=error.message, retry_in_s=pause)
        except Exception as error:
            _log.exception("progress_listener_failed", error=repr(error))
        finally:
            progress.listening = False
        await asyncio.sleep(pause)
        pause = min(longest, pause * 2)


async def _hear(progress: FoldProgress, dsn: str, namespace: str) -> None:
    async with open_connection(dsn, namespace, application="runfold-server-progress") as connection:
        lost = await listen_for_positions(connection, progress_channel(namespace), progress.record)
        await listen_for_generations(connection, namespace, progress.record_switch)
        progress.record_switch()
        # Complete before anybody waits: what was committed before LISTEN is not announced again.
        for where, next_offset in (await checkpoints(connection)).items():
            progress.record(where, next_offset)
        progress.listening = True
        await lost.wait()
