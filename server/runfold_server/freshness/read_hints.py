"""Read hints: how far strong reads wait, so that workers fold that at once. Nothing relies on them."""

import asyncio
from collections.abc import Mapping

from runfold_projections.postgres.notifications import send_read_hints
from runfold_schemas.positions.position import Partition
from runfold_server.core.database import Database
from runfold_server.core.errors import Unavailable

_RETRY_SECONDS = 1.0
"""Pause while Postgres is away: the reads fail by themselves then."""


class ReadHintSender:
    """Sends the end offsets that many reads wait for in few notices, one at a time."""

    def __init__(self, database: Database, namespace: str) -> None:
        self._database, self._namespace = database, namespace
        self._ends: dict[Partition, int] = {}
        self._filled = asyncio.Event()

    def send(self, ends: Mapping[Partition, int]) -> None:
        """Send, soon, that a read waits until these end offsets are folded."""
        for where, end in ends.items():
            self._ends[where] = max(end, self._ends.get(where, 0))
            self._filled.set()

    async def serve(self) -> None:
        """Send until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            ends, self._ends = self._ends, {}
            try:
                async with self._database.connection() as connection:
                    await send_read_hints(connection, self._namespace, ends)
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
