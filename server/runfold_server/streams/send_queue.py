"""What one stream has yet to send, bounded, and how far it has sent."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from runfold_schemas.positions.position import Partition

T = TypeVar("T")
"""What waits in the queue."""
I_contra = TypeVar("I_contra", contravariant=True)
"""What the log's readers add."""

MAX_PENDING_BYTES = 8 * 1024 * 1024
"""Memory that waits for one client, beside that of one stretch of the log."""


class End(StrEnum):
    """Why a stream ends: the client reads too slowly, the server stops, or the log can't show the rest any more."""

    SLOW = "slow"
    STOPPED = "stopped"
    GONE = "gone"


class _Item(NamedTuple, Generic[T]):
    where: Partition
    next_offset: int
    value: T
    nbytes: int


class SendQueue(Generic[I_contra, T]):
    """The queue between a reader of the log, which adds, and one stream, which pops. What was popped counts as sent."""

    interests: Collection[str] = ()
    """Ids of entities that the stream is about, for readers that filter by them."""

    def __init__(self, offsets: Mapping[Partition, int]) -> None:
        self.offsets: dict[Partition, int] = dict(offsets)
        """How far the log was added, pending items included."""
        self._sent: dict[Partition, int] = dict(offsets)
        self._pending: deque[_Item[T]] = deque()
        self.nbytes = 0
        self.end: End | None = None
        self.reason = ""
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def add(self, where: Partition, items: Sequence[I_contra], next_offset: int) -> None:
        """Add a stretch of the log that ends before `next_offset`. What is before the stream's own offset changes
        nothing.
        """
        raise NotImplementedError

    @property
    def sent(self) -> Mapping[Partition, int]:
        """The offset of each partition before which the client has everything."""
        return self._sent

    @property
    def has_pending(self) -> bool:
        """Whether there is something to send, if only the end."""
        return bool(self._pending) or self.end is not None

    def accepts(self, where: Partition, next_offset: int) -> bool:
        """Whether a stretch of the log that ends there is new. Ends the stream if its client is too slow."""
        if self.end is not None or next_offset <= self.offsets[where]:
            return False
        if self.nbytes > MAX_PENDING_BYTES:
            self.finish(End.SLOW, "more comes than the client reads; it can go on from the last event's id")
            return False
        return True

    def put(self, where: Partition, next_offset: int, value: T, nbytes: int) -> None:
        """Queue something that is before `next_offset`."""
        self._pending.append(_Item(where, next_offset, value, nbytes))
        self.nbytes += nbytes
        self._filled.set()
        if self.nbytes > MAX_PENDING_BYTES // 2:
            self._room.clear()

    def peek(self) -> T | None:
        """The next item; None if nothing waits."""
        return self._pending[0].value if self._pending else None

    def pop(self) -> tuple[T, int]:
        """The next item and its bytes; it counts as sent now."""
        item = self._pending.popleft()
        self._sent[item.where] = item.next_offset
        self.nbytes -= item.nbytes
        if self.nbytes <= MAX_PENDING_BYTES // 2:
            self._room.set()
        return item.value, item.nbytes

    def mark_all_sent(self) -> None:
        """If nothing waits, count as sent all that was added: the rest of it was not for this stream."""
        if not self._pending and self.end is None:
            self._sent = dict(self.offsets)

    def finish(self, end: End, reason: str) -> None:
        """End the stream. What is pending is dropped; the client gets the reason."""
        if self.end is None:
            self.end, self.reason = end, reason
            self._pending.clear()
            self.nbytes = 0
            self._filled.set()
            self._room.set()

    async def wait_for_room(self) -> None:
        """Return when half of what may be pending is free."""
        await self._room.wait()

    async def wait_for_items(self, seconds: float) -> None:
        """Return when there is something to send, or after so many seconds."""
        if self.has_pending:
            return
        self._filled.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._filled.wait()
        except TimeoutError:
            pass
