"""Numbered metric keys of runs.

Runs whose keys start alike share one list, which grows in place: a new key costs the same however many there are.
"""

from collections.abc import Sequence
from sys import getsizeof
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

BLOCK = 512
"""Keys stored together: those numbered from n * BLOCK on, in the order of their first appearance."""
FEW_KEYS = 8
_MOST_PLACES = 16
"""Remembered key lists. Writers split wide rows, and send the same parts again and again."""
_MOST_TIMES = 4
"""Bound on the keys of all remembered lists together, as a multiple of the number of keys."""
_NAME_BYTES, _PLACE_BYTES = 140, 16
"""Measured bytes: of a name in a list and a dict, beside its text; of a key in a remembered list."""


class Places(NamedTuple):
    """Places of some keys of a run: their numbers (int64 array), the blocks that hold them, and whether each is named
    once.
    """

    numbers: NDArray[np.int64]
    blocks: frozenset[int]
    once: bool
    few: tuple[int, ...]
    """The numbers again, for code without NumPy; empty if there are many."""
    most: int
    """The greatest number."""

    @classmethod
    def of(cls, numbers: list[int]) -> "Places":
        """Make the places of these numbers."""
        array = np.array(numbers, np.int64)
        once = len(set(numbers)) == len(numbers)
        if len(numbers) <= FEW_KEYS:
            return cls(array, frozenset(n // BLOCK for n in numbers), once, tuple(numbers), max(numbers, default=-1))
        return cls(array, frozenset(np.unique(array // BLOCK).tolist()), once, (), int(array.max()))


class Keys:
    """Names in the order of their numbers.

    A run has the first `size` of them; the rest belong to runs that share the list.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names: list[str] = []
        self.number: dict[str, int] = {}
        self._forks: WeakValueDictionary[tuple[int, str], Keys] | None = None
        self._places: dict[tuple[str, ...], Places] = {}
        self._remembered = self._text = 0
        self.append(names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def bytes(self) -> int:
        """Approximate bytes of memory."""
        return self._text + len(self.names) * _NAME_BYTES + self._remembered * _PLACE_BYTES

    def append(self, names: Sequence[str]) -> None:
        """Append new names."""
        self.number.update(zip(names, range(len(self.names), len(self.names) + len(names)), strict=True))
        self.names += names
        self._text += sum(map(getsizeof, names))

    def trim(self, size: int) -> None:
        """Drop all names but the first `size`, since no run has more."""
        gone = self.names[size:]
        del self.names[size:]
        for name in gone:
            del self.number[name]
        self._text -= sum(map(getsizeof, gone))
        self._forget_places()
        # Lists that branched off beyond the end would start with names that may become others.
        for at, name in list(self._forks or ()):
            if self._forks is not None and at > size:
                self._forks.pop((at, name), None)

    def places(self, keys: tuple[str, ...], size: int) -> Places | None:
        """Return the places of these keys among the first `size`; None if one is missing."""
        found = self._places.get(keys)
        if found is None:
            try:
                numbers = [self.number[key] for key in keys]
            except KeyError:
                return None
            found = Places.of(numbers)
            self._remember(keys, found)
        return found if found.most < size else None

    def new(self, keys: tuple[str, ...], size: int) -> tuple[str, ...]:
        """Return the keys that are not among the first `size`, each once."""
        number = self.number
        return tuple(dict.fromkeys(key for key in keys if number.get(key, size) >= size))

    def fork(self, at: int, names: Sequence[str]) -> "Keys":
        """Return a list of the first `at` names and these, which differ from the rest of this list."""
        forked = Keys(self.names[:at])
        forked.append(names)
        if self._forks is None:
            self._forks = WeakValueDictionary()
        self._forks[at, names[0]] = forked
        return forked

    def forked(self, at: int, name: str) -> "Keys | None":
        """Return a known list with the same first `at` names followed by this one."""
        return None if self._forks is None else self._forks.get((at, name))

    def _remember(self, keys: tuple[str, ...], places: Places) -> None:
        if len(self._places) >= _MOST_PLACES or self._remembered + len(keys) > _MOST_TIMES * len(self.names):
            self._forget_places()
        self._places[keys] = places
        self._remembered += len(keys)

    def _forget_places(self) -> None:
        self._places.clear()
        self._remembered = 0


class Layouts:
    """The `Keys` that runs of one partition share, as long as any run has them."""

    def __init__(self) -> None:
        self.empty = Keys()
        self._roots: WeakValueDictionary[str, Keys] = WeakValueDictionary()
        """By first name."""

    def extended(self, keys: Keys, size: int, new: Sequence[str]) -> Keys:
        """Return the first `size` of these keys followed by new ones.

        Copies only for a run that diverges from a run that it shared the list with.
        """
        if not size:
            keys = self._root(new[0])
        at, done = size, 0
        while True:
            same = _alike(keys.names, at, new, done)
            at, done = at + same, done + same
            if done == len(new):
                return keys
            rest = new[done:]
            if at == len(keys):
                keys.append(rest)
                return keys
            other = keys.forked(at, rest[0])
            if other is None:
                return keys.fork(at, rest)
            keys = other

    def known(self, names: Sequence[str]) -> Keys:
        """Return the `Keys` of stored names."""
        return self.extended(self.empty, 0, names) if names else self.empty

    def _root(self, name: str) -> Keys:
        found = self._roots.get(name)
        if found is None:
            found = self._roots[name] = Keys()
        return found


def _alike(names: list[str], at: int, new: Sequence[str], done: int) -> int:
    """Count the new names from `done` on that equal those from `at` on."""
    most = min(len(names) - at, len(new) - done)
    if names[at : at + most] == list(new[done : done + most]):
        return most
    return next(n for n in range(most) if names[at + n] != new[done + n])
