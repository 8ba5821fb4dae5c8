"""Pauses between retries."""

import asyncio
import random

FIRST_SECONDS = 0.1
"""Short enough that a reconnect or a lost fence is hardly noticed."""
MAX_SECONDS = 5.0
"""A service that comes back is used again within this time."""


class Backoff:
    """Pauses that double up to a limit, with jitter, so that retries of many tasks spread out."""

    def __init__(self, first_seconds: float = FIRST_SECONDS, max_seconds: float = MAX_SECONDS) -> None:
        self._first, self._max = first_seconds, max_seconds
        self.reset()

    def reset(self) -> None:
        """Start again with the shortest pause."""
        self._next = self._first

    async def pause(self) -> None:
        """Sleep for 50 to 100 % of the current pause, then double it."""
        await asyncio.sleep(self._next * random.uniform(0.5, 1.0))
        self._next = min(self._next * 2, self._max)
