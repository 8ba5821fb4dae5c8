"""How far a stream was told, and what it was not told yet: bounded."""

import asyncio
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

W = TypeVar("W")
"""What names a partition."""
T = TypeVar("T")

MOST_PENDING = 8 * 1024 * 1024
"""Bytes that wait for one client, beside those of one stretch of the log."""


class End(StrEnum):
    """Why a stream ends: the client reads too slowly, the server stops, the log can't tell the rest any more."""

    SLOW = "slow"
    STOPPED = "stopped"
    GONE = "gone"


class _Item(NamedTuple, Generic[W, T]):
    where: W
    next_offset: int
    told: T
    nbytes: int


class Pending(Generic[W, T]):
    """Whoever reads the log puts in, the stream takes out; what was taken out counts as told."""

    def __init__(self, offsets: Mapping[W, int]) -> None:
        self.offsets: dict[W, int] = dict(offsets)
        """How far the log was taken in, pending things included."""
        self._told: dict[W, int] = dict(offsets)
        self._pending: deque[_Item[W, T]] = deque()
        self.nbytes = 0
        self.end: End | None = None
        self.reason = ""
        self._woken = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def told(self) -> Mapping[W, int]:
        """Of each partition the offset up to which the client was told."""
        return self._told

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._pending) or self.end is not None

    def takes(self, where: W, next_offset: int) -> bool:
        """Whether a stretch of the log that ends there brings anything new. A stream whose client is too slow ends here."""
        if self.end is not None or next_offset <= self.offsets[where]:
            return False
        if self.nbytes > MOST_PENDING:
            self.finish(End.SLOW, "more comes than the client reads; it can go on from the last event's id")
            return False
        return True

    def put(self, where: W, next_offset: int, thing: T, nbytes: int) -> None:
        """Let something wait that lies before `next_offset`."""
        self._pending.append(_Item(where, next_offset, thing, nbytes))
        self.nbytes += nbytes
        self._woken.set()
        if self.nbytes > MOST_PENDING // 2:
            self._room.clear()

    def peek(self) -> T | None:
        """What is next; None if nothing waits."""
        return self._pending[0].told if self._pending else None

    def pop(self) -> tuple[T, int]:
        """What is next, and its bytes: it is told now."""
        item = self._pending.popleft()
        self._told[item.where] = item.next_offset
        self.nbytes -= item.nbytes
        if self.nbytes <= MOST_PENDING // 2:
            self._room.set()
        return item.told, item.nbytes

    def told_all(self) -> None:
        """If nothing waits, the client knows as much as was taken in."""
        if not self._pending and self.end is None:
            self._told = dict(self.offsets)

    def finish(self, end: End, reason: str) -> None:
        """End the stream: what is pending is forgotten, and its client told why."""
        if self.end is None:
            self.end, self.reason = end, reason
            self._pending.clear()
            self.nbytes = 0
            self._woken.set()
            self._room.set()

    async def room(self) -> None:
        """Return when half of what may be pending is free."""
        await self._room.wait()

    async def wait(self, seconds: float) -> None:
        """Return when there is something to tell, or after so long."""
        if self.waiting:
            return
        self._woken.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
