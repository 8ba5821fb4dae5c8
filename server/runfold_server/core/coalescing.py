"""Coalescing: questions that many callers ask at the same time, answered by few look-ups."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from runfold_server.core.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True, eq=False)
class _Caller(Generic[K, V]):
    key: K
    found: list[V] = field(default_factory=list)
    failure: Exception | None = None
    gone: bool = False
    """Whether the caller has given up, in the queue or during a look-up for it."""

    @property
    def is_answered(self) -> bool:
        return bool(self.found) or self.failure is not None


class Coalescer(Generic[K, V]):
    """Answers each caller by a look-up that began after the call, as Raft's ReadIndex does.

    Callers that come during one share the next.

    There is one look-up at a time. The first caller in the queue looks up for all that wait by then; if it is
    cancelled, the next one does.
    """

    def __init__(self, look_up: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        """`look_up` answers every key that it gets."""
        self._look_up = look_up
        self._waiting: list[_Caller[K, V]] = []
        self._turn = asyncio.Lock()

    async def get(self, key: K) -> V:
        """The answer to `key`. An error of a look-up goes to every caller that it was for."""
        caller: _Caller[K, V] = _Caller(key)
        self._waiting.append(caller)
        try:
            async with self._turn:
                if not caller.is_answered:
                    await self._answer_waiting()
        finally:
            caller.gone = True
        if caller.failure is not None:
            raise _copy(caller.failure)
        return caller.found[0]

    async def _answer_waiting(self) -> None:
        callers, self._waiting = [one for one in self._waiting if not one.gone], []
        try:
            found = await self._look_up([one.key for one in callers])
        except asyncio.CancelledError:
            self._waiting = callers + self._waiting
            raise
        except Exception as error:
            for one in callers:
                one.failure = error
        else:
            for one in callers:
                one.found.append(found[one.key])


def _copy(error: Exception) -> Exception:
    """Return an exception object of the caller's own, since each gets a traceback; it keeps the cause."""
    if not isinstance(error, Unavailable):
        return error
    again = Unavailable(error.message, error.retry_after)
    again.__cause__ = error.__cause__
    return again
