"""Distinct texts, ascending by code points, in one piece of memory: what a column of texts counts in."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold_projections.search.like import Pattern, like

_END = b"\0"


@dataclass(frozen=True, slots=True)
class TextDictionary:
    """Texts in UTF-8, each followed by a zero byte, in `blob`. `starts` (int64) has the start of each, and the end.

    The order of UTF-8's bytes is that of the code points. Texts of Postgres hold no zero byte.
    """

    blob: bytes
    starts: Any

    @staticmethod
    def of(texts: Iterable[bytes]) -> "TextDictionary":
        """Of these, which are distinct and in order."""
        ordered = list(texts)
        lengths = np.fromiter(map(len, ordered), np.int64, len(ordered))
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths + 1)))
        return TextDictionary(_END.join([*ordered, b""]), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, code: int) -> bytes:
        return self.blob[self.starts[code] : self.starts[code + 1] - 1]

    @property
    def nbytes(self) -> int:
        return len(self.blob) + int(self.starts.nbytes)

    def place(self, text: bytes) -> int:
        """How many texts come before this one."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[middle] < text:
                low = middle + 1
            else:
                high = middle
        return low

    def code(self, text: bytes) -> int | None:
        """The text's place; None if it is not here."""
        at = self.place(text)
        return at if at < len(self) and self[at] == text else None

    def texts(self, codes: Iterable[int] | None = None) -> list[str]:
        """The texts of these codes, or all."""
        if codes is None:
            return self.blob.decode().split("\0")[:-1]
        return [self[code].decode() for code in codes]

    def with_texts(self, texts: Collection[bytes]) -> tuple["TextDictionary", Any]:
        """Return a dictionary with these values added (none may be present), and the new code of each old one."""
        new = sorted(texts)
        places = [self.place(text) for text in new]
        pieces: list[bytes] = []
        before = 0
        for place, text in zip(places, new, strict=True):
            pieces += (self.blob[self.starts[before] : self.starts[place]], text, _END)
            before = place
        pieces.append(self.blob[self.starts[before] :])
        lengths = np.insert(np.diff(self.starts), places, [len(text) + 1 for text in new])
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
        old = np.arange(len(self))
        return TextDictionary(b"".join(pieces), starts), old + np.searchsorted(places, old, side="right")

    def like(self, pattern: str, *, ignore_case: bool = False) -> Any:
        """Of each text whether it matches, as a bool array. `ignore_case` is for ASCII alone."""
        parsed = Pattern(pattern.lower() if ignore_case else pattern)
        blob = self.blob.lower() if ignore_case else self.blob
        if parsed.parts is None:
            test = like(pattern, ignore_case=ignore_case)
            return np.fromiter(map(test, self.texts()), bool, len(self))
        return _matches(blob, self.starts[:-1], self.starts[1:] - 1, parsed.parts)


def _matches(blob: bytes, starts: Any, ends: Any, parts: Sequence[bytes]) -> Any:
    """All texts at once: the parts stand in them in this order, the first at the start, the last at the end."""
    first, last = parts[0], parts[-1]
    characters = np.frombuffer(blob, np.uint8)
    if len(parts) == 1:
        return (ends - starts == len(first)) & _stands(characters, starts, first)
    mask = ends - starts >= len(first) + len(last)
    mask &= _stands(characters, starts, first)
    mask &= _stands(characters, ends - len(last), last)
    at, until = starts + len(first), ends - len(last)
    for part in filter(None, parts[1:-1]):
        places = _find(characters, part)
        if not len(places):
            return np.zeros(len(starts), bool)
        # The leftmost place is as good as any: what follows has the most room then.
        found = np.searchsorted(places, at)
        there = found < len(places)
        at = places[np.minimum(found, len(places) - 1)] + len(part)
        mask &= there & (at <= until)
    return mask


def _stands(characters: Any, places: Any, part: bytes) -> Any:
    """Return whether the part is at each of these places. The result does not matter for places too near to the end."""
    mask = np.ones(len(places), bool)
    for offset, byte in enumerate(part):
        mask &= characters[np.clip(places + offset, 0, len(characters) - 1)] == byte
    return mask


def _find(characters: Any, part: bytes) -> Any:
    """Where the part stands, ascending."""
    room = len(characters) - len(part) + 1
    if room <= 0:
        return np.empty(0, np.int64)
    places = np.flatnonzero(characters[:room] == part[0])
    for offset, byte in enumerate(part[1:], 1):
        places = places[characters[places + offset] == byte]
    return places
