"""Turns on the event loop: long work in Python is cut into slices, so that no partition's fold holds up another one's outcome.

Not by threads: two that compute pass the interpreter's lock to each other every 5 ms, and the loop would wait for it at each of its steps.
"""

import asyncio
import time
from weakref import WeakKeyDictionary

SLICE = 0.005
"""Seconds of work before others have a turn."""

_ends: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Turns:
    """One piece of long work. It calls `end` between small steps, each of which may leave it for a while."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE

    @property
    def is_over(self) -> bool:
        """Whether others should have a turn."""
        return time.perf_counter() >= self._until

    async def end(self) -> None:
        """Let others have a turn, if this one has lasted long enough. Of all that compute, one does between two looks at what has come."""
        if time.perf_counter() < self._until:
            return
        loop = asyncio.get_running_loop()
        async with _ends.setdefault(loop, asyncio.Lock()):
            await asyncio.sleep(0)
        self._until = time.perf_counter() + SLICE
