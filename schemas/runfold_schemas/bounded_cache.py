"""A cache that is bounded by what it holds, not by the number of its entries."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

NAME_BYTES = 64
"""Memory of a short string in CPython beyond its characters."""

_K = TypeVar("_K")
_V = TypeVar("_V")


class BoundedCache(Generic[_K, _V]):
    """Keeps the most recently used entries, as many as fit `max_cost`, the sum of the costs that `put` names.

    Thread-safe.
    """

    def __init__(self, max_cost: int) -> None:
        self._max_cost = max_cost
        self._cost = 0
        self._entries: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def cost(self) -> int:
        """The sum of the costs of all entries."""
        return self._cost

    def get(self, key: _K) -> _V | None:
        """The value of a key, which is then the most recently used; None if it is not there."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: _K, value: _V, cost: int) -> list[_V]:
        """Keep a value, and return those that had to make room: the least recently used, or itself if it alone costs
        too much.
        """
        evicted: list[_V] = []
        with self._lock:
            # Two threads may have missed the same entry.
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = (value, cost)
            self._cost += cost - before
            while self._cost > self._max_cost:
                _, (oldest, freed) = self._entries.popitem(last=False)
                self._cost -= freed
                evicted.append(oldest)
        return evicted

    def clear(self) -> list[_V]:
        """Forget everything, and return all values."""
        with self._lock:
            values = [value for value, _ in self._entries.values()]
            self._entries.clear()
            self._cost = 0
        return values

    def pop(self, key: _K) -> _V | None:
        """Forget a key and return its value; None if it is not there."""
        with self._lock:
            value, cost = self._entries.pop(key, (None, 0))
            self._cost -= cost
            return value


def names_cost(names: Sequence[str]) -> int:
    """Memory of a list of names, in bytes, approximately."""
    return sum(map(len, names)) + NAME_BYTES * len(names)
