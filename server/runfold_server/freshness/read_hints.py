"""Tells the workers how far strong reads wait, so that they fold that at once. Hints: nobody relies on them."""

import asyncio
from collections.abc import Mapping

from runfold_projections.postgres.notifications import send_read_hints
from runfold_schemas.positions.position import Partition
from runfold_server.core.database import Database
from runfold_server.core.errors import Unavailable

_PAUSE = 1.0
"""Seconds until the next try while Postgres is away: then the reads say so themselves."""


class Urge:
    """Sends what many reads wait for in few notices, one at a time."""

    def __init__(self, database: Database, namespace: str) -> None:
        self._database, self._namespace = database, namespace
        self._ends: dict[Partition, int] = {}
        self._said = asyncio.Event()

    def say(self, ends: Mapping[Partition, int]) -> None:
        """Somebody waits until these ends (next offsets) are folded."""
        for where, end in ends.items():
            self._ends[where] = max(end, self._ends.get(where, 0))
            self._said.set()

    async def serve(self) -> None:
        """Send until cancelled."""
        while True:
            await self._said.wait()
            self._said.clear()
            ends, self._ends = self._ends, {}
            try:
                async with self._database.connection() as connection:
                    await send_read_hints(connection, self._namespace, ends)
            except Unavailable:
                await asyncio.sleep(_PAUSE)
