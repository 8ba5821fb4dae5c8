"""Questions that many callers have at the same time, answered by few look-ups."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from runfold_server.core.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True, eq=False)
class _Asked(Generic[K, V]):
    key: K
    found: list[V] = field(default_factory=list)
    failure: Exception | None = None
    gone: bool = False
    """Whether the caller has given up, in the queue or while another's look-up asks for it."""

    @property
    def done(self) -> bool:
        return bool(self.found) or self.failure is not None


class Together(Generic[K, V]):
    """Answers each caller by a look-up that began after the call; whoever comes while one is under way shares the next.

    One look-up at a time: the first who waits asks for all who wait by then, and if it is cancelled, the next one does.
    """

    def __init__(self, look: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        """`look` answers every key that it is given."""
        self._look = look
        self._waiting: list[_Asked[K, V]] = []
        self._turn = asyncio.Lock()

    async def get(self, key: K) -> V:
        """The answer to `key`. What a look-up raises goes to all whom it was for."""
        asked: _Asked[K, V] = _Asked(key)
        self._waiting.append(asked)
        try:
            async with self._turn:
                if not asked.done:
                    await self._ask()
        finally:
            asked.gone = True
        if asked.failure is not None:
            raise _anew(asked.failure)
        return asked.found[0]

    async def _ask(self) -> None:
        asked, self._waiting = [one for one in self._waiting if not one.gone], []
        try:
            found = await self._look([one.key for one in asked])
        except asyncio.CancelledError:
            self._waiting = asked + self._waiting
            raise
        except Exception as error:
            for one in asked:
                one.failure = error
        else:
            for one in asked:
                one.found.append(found[one.key])


def _anew(error: Exception) -> Exception:
    """One exception object per caller, as each gets a traceback of its own; with the cause that callers look at."""
    if not isinstance(error, Unavailable):
        return error
    again = Unavailable(error.message, error.retry_after)
    again.__cause__ = error.__cause__
    return again
