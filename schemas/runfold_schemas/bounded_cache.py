"""Caches that are bounded by what they hold, not by how often: key lists have from one name to a hundred thousand."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

NAME_BYTES = 64
"""What a short string costs CPython beyond its characters, so that a cache's bound is one of memory."""

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """A cache that forgets the least recently used; bounded by the sum of its entries' costs. Readers decode in threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._cost = 0
        self._entries: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: _K) -> _V | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: _K, value: _V, cost: int) -> None:
        with self._lock:
            # Two threads may have missed the same entry.
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = (value, cost)
            self._cost += cost - before
            while self._cost > self._most:
                _, (_, freed) = self._entries.popitem(last=False)
                self._cost -= freed


def names_cost(names: Sequence[str]) -> int:
    """What a list of names takes in memory, about."""
    return sum(map(len, names)) + NAME_BYTES * len(names)
