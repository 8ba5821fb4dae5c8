"""Decides whether an unknown schema id is poison or belongs to a newer release."""

import asyncio
from collections.abc import Awaitable, Callable

from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.codec.system_state import SystemState

ReadSystem = Callable[[SystemState | None], Awaitable[SystemState]]
"""Reads the `system` topic to its end, starting from an earlier state or, with None, from the beginning."""


class SchemaGate:
    """Looks up schema ids that the catalog lacks. One per worker, so that partitions share its look-ups."""

    def __init__(self, catalog: Catalog, read_system: ReadSystem) -> None:
        self.catalog = catalog
        self._read_system = read_system
        self._state: SystemState | None = None
        self._reading = asyncio.Lock()

    async def system(self) -> SystemState:
        """Return the state of the `system` topic as of this call or later."""
        async with self._reading:
            self._state = await self._read_system(self._state)
            return self._state

    async def declared(self) -> frozenset[int]:
        """Return the ids that the log declares.

        Complete for any record read before this call: a declaration is acknowledged before its first use.
        """
        return (await self.system()).declared
