"""Turns on the event loop: long work in Python is cut into slices, so that no partition's fold delays another's
outcome.

Threads would not do: two that compute pass the interpreter's lock to each other every 5 ms, and the loop would wait for
it at each of its steps.
"""

import asyncio
import time
from weakref import WeakKeyDictionary

SLICE_SECONDS = 0.005
"""Work before others get a turn: short beside the round trip of a request."""

_ends: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Turns:
    """One piece of long work. It calls `end` between small steps; each call may yield to other work."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        """Return whether others should get a turn."""
        return time.perf_counter() >= self._until

    async def end(self) -> None:
        """Let others have a turn if this one has lasted long enough.

        Of all tasks that compute, one continues between two polls of the event loop.
        """
        if time.perf_counter() < self._until:
            return
        loop = asyncio.get_running_loop()
        async with _ends.setdefault(loop, asyncio.Lock()):
            await asyncio.sleep(0)
        self._until = time.perf_counter() + SLICE_SECONDS
