"""Slots for what lasts: streams, and answers that are large. Slot before the work begins, at most so many for each client."""

import asyncio
from collections import Counter
from types import TracebackType

from starlette.requests import Request

from runfold_server.core.errors import TooMany, Unavailable


class Slots:
    """So many places in all, and so many for one client: an address."""

    def __init__(self, what: str, most: int, per_client: int) -> None:
        self._what, self._most, self._per_client = what, most, per_client
        self._taken: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._taken.total()

    def acquire(self, request: Request) -> "Slot":
        """A place, now. TooMany if the client has all that one may have, Unavailable if there is none left."""
        client = client_of(request)
        if self._taken[client] >= self._per_client:
            raise TooMany(
                f"{self._per_client} {self._what} of one client are open already; end one of them first.", 5.0
            )
        if self.taken >= self._most:
            raise Unavailable(f"This server has {self._most} {self._what} already; ask another one, or later.", 5.0)
        self._taken[client] += 1
        return Slot(self, client)

    async def acquire_within(self, request: Request, seconds: float) -> "Slot":
        """A place, after up to `seconds`; raises as `take` when they are over."""
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
        """Free one of a client's places."""
        self._taken[client] -= 1
        if self._taken[client] <= 0:
            del self._taken[client]
        self._freed.set()


class Slot:
    """A place that is taken until it is given back; more than once does no harm."""

    def __init__(self, places: Slots, client: str) -> None:
        self._places, self._client, self._held = places, client, True

    def release(self) -> None:
        """Free the place."""
        if self._held:
            self._held = False
            self._places.release(self._client)

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        # What is answered holds the place until it is sent.
        if kind is not None:
            self.release()


def client_of(request: Request) -> str:
    """Who asks: an address, which a proxy on this machine may say."""
    return request.client.host if request.client is not None else ""
