"""Slots for streams and large answers, limited in all and for each client.

A slot is acquired before the work begins.
"""

import asyncio
from collections import Counter
from types import TracebackType

from starlette.requests import Request

from runfold_server.core.errors import TooMany, Unavailable


class Slots:
    """`most` slots in all and `per_client` for one address. `what` names them in errors."""

    def __init__(self, what: str, most: int, per_client: int) -> None:
        self._what, self._most, self._per_client = what, most, per_client
        self._used: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @property
    def used(self) -> int:
        """The number of slots in use."""
        return self._used.total()

    def acquire(self, request: Request) -> "Slot":
        """Return a slot. TooMany if the client has reached its limit, Unavailable if all slots are in use."""
        client = client_of(request)
        if self._used[client] >= self._per_client:
            raise TooMany(
                f"{self._per_client} {self._what} of one client are open already; end one of them first.", 5.0
            )
        if self.used >= self._most:
            raise Unavailable(f"This server has {self._most} {self._what} already; ask another one, or later.", 5.0)
        self._used[client] += 1
        return Slot(self, client)

    async def acquire_within(self, request: Request, seconds: float) -> "Slot":
        """Return a slot, waiting up to `seconds` for one; then raise as `acquire` does."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                return self.acquire(request)
            except (TooMany, Unavailable):
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise
            self._freed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._freed.wait()
            except TimeoutError:
                pass

    def release(self, client: str) -> None:
        """Free one of a client's slots."""
        self._used[client] -= 1
        if self._used[client] <= 0:
            del self._used[client]
        self._freed.set()


class Slot:
    """A slot in use until it is released; releasing it again does nothing."""

    def __init__(self, places: Slots, client: str) -> None:
        self._places, self._client, self._held = places, client, True

    def release(self) -> None:
        """Free the slot."""
        if self._held:
            self._held = False
            self._places.release(self._client)

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        # The response holds the slot until it is sent.
        if kind is not None:
            self.release()


def client_of(request: Request) -> str:
    """Return the client's address, which a trusted proxy may name."""
    return request.client.host if request.client is not None else ""
