"""How far readers wait for the folds: while somebody does, a partition lets no records gather."""

import asyncio
import contextlib

from runfold_projections.postgres.connection import open_connection
from runfold_projections.postgres.notifications import listen_for_positions, read_hint_channel
from runfold_schemas.positions.position import Partition


class Wanted:
    """Ends (next offsets) that readers wait for. Hints only: who hears none folds a rest later."""

    def __init__(self) -> None:
        self._ends: dict[Partition, int] = {}
        self._waiting: dict[Partition, asyncio.Event] = {}

    def note(self, where: Partition, end: int) -> None:
        """Somebody waits until `where` is folded up to `end`."""
        if end > self._ends.get(where, 0):
            self._ends[where] = end
            if where in self._waiting:
                self._waiting[where].set()

    async def rest(self, where: Partition, next_offset: int, seconds: float) -> None:
        """Return after so many seconds, or as soon as somebody waits for more than is folded."""
        if self._ends.get(where, 0) > next_offset:
            return
        event = self._waiting[where] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def listen(self, dsn: str, namespace: str) -> None:
        """Hear readers until the connection is lost."""
        async with open_connection(dsn, namespace, application="runfold worker wanted") as connection:
            lost = await listen_for_positions(connection, read_hint_channel(namespace), self.note)
            await lost.wait()
