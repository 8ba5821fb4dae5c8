"""How far the folds are: checkpoints as workers announce them. Only a hint; rows are trusted in snapshots alone."""

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

POLL = 0.25
"""Seconds after which a waiter looks for itself, should a notice have been lost."""
POLL_DEAF = 0.05
"""The same while nobody listens for notices."""
_RECONNECT = (0.1, 2.0)

_log = structlog.get_logger(__name__)


class Progress:
    """Wakes whoever waits for a checkpoint.

    `version` counts notices. `listening` is False while there is no connection to listen on. `switches` counts what may have put other
    tables in the place of those that were read.
    """

    def __init__(self) -> None:
        self.known: dict[Partition, int] = {}
        self.version = 0
        self.switches = 0
        self.listening = False
        self._waiting: dict[Partition, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._moved = asyncio.Event()
        self._ticket = 0

    def note(self, where: Partition, next_offset: int) -> None:
        """Take in a notice."""
        self.version += 1
        self._moved.set()
        self._moved.clear()
        if next_offset <= self.known.get(where, 0):
            return
        self.known[where] = next_offset
        waiting = self._waiting.get(where)
        while waiting and waiting[0][0] <= next_offset:
            _, _, waiter = heappop(waiting)
            if not waiter.done():
                waiter.set_result(None)

    def note_switch(self) -> None:
        """Take in that the generations have changed, or may have."""
        self.switches += 1

    async def reach(self, want: Mapping[Partition, int], timeout: float) -> None:
        """Return when notices say that all are reached, or after `timeout` seconds, or at once while nobody listens."""
        if not self.listening:
            return
        try:
            async with asyncio.timeout(timeout):
                for where, end in want.items():
                    if self.known.get(where, 0) < end:
                        await self._wait(where, end)
        except TimeoutError:
            pass

    async def _wait(self, where: Partition, end: int) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ticket += 1
        heappush(self._waiting.setdefault(where, []), (end, self._ticket, waiter))
        await waiter

    async def moved(self, since: int, timeout: float) -> None:
        """Return when a notice came after version `since`, or after a poll's time (at most `timeout` seconds)."""
        if self.version != since:
            return
        try:
            async with asyncio.timeout(min(timeout, POLL if self.listening else POLL_DEAF)):
                await self._moved.wait()
        except TimeoutError:
            pass


async def listen(progress: Progress, dsn: str, namespace: str) -> None:
    """Hear notices until cancelled; connect again, with growing pauses, whenever the connection is lost."""
    pause, most = _RECONNECT
    while True:
        try:
            with postgres_outages():
                await _hear(progress, dsn, namespace)
            pause = _RECONNECT[0]
        except Unavailable as error:
            _log.warning("progress_notices_lost", error=error.message, retry_in_s=pause)
        except Exception as error:
            _log.exception("progress_listener_failed", error=repr(error))
        finally:
            progress.listening = False
        await asyncio.sleep(pause)
        pause = min(most, pause * 2)


async def _hear(progress: Progress, dsn: str, namespace: str) -> None:
    async with open_connection(dsn, namespace, application="runfold-server-progress") as connection:
        lost = await listen_for_positions(connection, progress_channel(namespace), progress.note)
        await listen_for_generations(connection, namespace, progress.note_switch)
        progress.note_switch()
        # The known must be complete before it is waited on: what was committed before LISTEN announces itself no more.
        for where, next_offset in (await checkpoints(connection)).items():
            progress.note(where, next_offset)
        progress.listening = True
        await lost.wait()
