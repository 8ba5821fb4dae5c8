"""What this release can read, and what the log declares: poison or upgrade?"""

import asyncio
from collections.abc import Awaitable, Callable

from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.codec.system_state import SystemState

ReadSystem = Callable[[SystemState | None], Awaitable[SystemState]]
"""Reads the `system` topic to its end, going on from a state."""


class Gate:
    """Decides about schema ids that the catalog lacks. One per worker; partitions share its look-ups."""

    def __init__(self, catalog: Catalog, read_system: ReadSystem) -> None:
        self.catalog = catalog
        self._read_system = read_system
        self._state: SystemState | None = None
        self._reading = asyncio.Lock()

    async def system(self) -> SystemState:
        """State of the `system` topic as of now or later."""
        async with self._reading:
            self._state = await self._read_system(self._state)
            return self._state

    async def declared(self) -> frozenset[int]:
        """The ids that the log declares, for any record read before this call: a declaration is acknowledged before its
        first use.
        """
        return (await self.system()).declared
