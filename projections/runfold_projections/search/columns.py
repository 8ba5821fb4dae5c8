"""Columns of a table of runs: NumPy arrays with one entry per run, never changed once made.

A column is brought up to date in two steps, each of which gives a new column: `inserted` makes room for new runs, which have no
value yet, and `patched` gives values to some.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

_TEXT_OVERHEAD = 57
"""Bytes of a Python text without its characters, and of the reference to it."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """int64 or float64; where `present` is False the value means nothing."""

    values: Any
    present: Any

    def inserted(self, places: Any) -> "Numbers":
        """Room before each of these entries (ascending)."""
        return Numbers(np.insert(self.values, places, 0), np.insert(self.present, places, False))

    def patched(self, rows: Any, values: Sequence[float | None]) -> "Numbers":
        """Other values in these rows."""
        mine, present = self.values.copy(), self.present.copy()
        present[rows] = [value is not None for value in values]
        mine[rows] = [0 if value is None else value for value in values]
        return Numbers(mine, present)

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + self.present.nbytes)


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts as codes (int32): places in the ascending list of distinct values, -1 where there is none.

    So codes are in the order of their texts, by code points.
    """

    codes: Any
    values: Sequence[str]
    text_bytes: int

    @staticmethod
    def of(values: Iterable[str | None]) -> "Texts":
        """A column of these."""
        seen: dict[str | None, int] = {}
        code = seen.setdefault
        first = np.fromiter((code(value, len(seen)) for value in values), np.int32)
        known = [value for value in seen if value is not None]
        distinct = sorted(known)
        place = {value: at for at, value in enumerate(distinct)}
        final = np.array([-1 if value is None else place[value] for value in seen], np.int32)
        return Texts(final[first] if len(final) else first, distinct, _text_bytes(distinct))

    def inserted(self, places: Any) -> "Texts":
        """Room before each of these entries (ascending)."""
        return Texts(np.insert(self.codes, places, -1), self.values, self.text_bytes)

    def patched(self, rows: Any, values: Sequence[str | None]) -> "Texts":
        """Other values in these rows."""
        wider = self._with({value for value in values if value is not None})
        codes = wider.codes.copy() if wider is self else wider.codes
        codes[rows] = [-1 if value is None else bisect_left(wider.values, value) for value in values]
        return Texts(codes, wider.values, wider.text_bytes)

    def code(self, value: str) -> int | None:
        """The code of a text; None if no run has it."""
        at = bisect_left(self.values, value)
        return at if at < len(self.values) and self.values[at] == value else None

    def having(self, verdicts: Any) -> Any:
        """Rows whose text is one of those that the verdicts (one per distinct value) accept."""
        return np.append(verdicts, False)[self.codes]

    def _with(self, values: set[str]) -> "Texts":
        new = sorted(value for value in values if self.code(value) is None)
        if not new:
            return self
        places = [bisect_left(self.values, value) for value in new]
        merged: list[str] = []
        start = 0
        for place, value in zip(places, new, strict=True):
            merged += self.values[start:place]
            merged.append(value)
            start = place
        merged += self.values[start:]
        old = np.arange(len(self.values))
        moved = np.append(old + np.searchsorted(places, old, side="right"), -1).astype(np.int32)
        return Texts(moved[self.codes], merged, self.text_bytes + _text_bytes(new))

    @property
    def nbytes(self) -> int:
        return int(self.codes.nbytes + self.text_bytes)

    @property
    def is_stale(self) -> bool:
        """Whether most of its distinct values may be of the past: loading it anew is better."""
        return len(self.values) > 2 * len(self.codes) + 1000


DatasetRow: TypeAlias = tuple[str, str, str | None]
DATASET_FIELDS = ("name", "digest", "context")


@dataclass(frozen=True, slots=True)
class Datasets:
    """The data sets of all runs: entry by entry, the run's row and the data set's name, digest and context."""

    rows: Any
    fields: dict[str, Texts]

    @staticmethod
    def of(rows: Sequence[int], entries: Sequence[DatasetRow]) -> "Datasets":
        """A column of these entries, each of the run in the row of the same place."""
        columns = [[entry[at] for entry in entries] for at in range(len(DATASET_FIELDS))]
        fields = {name: Texts.of(column) for name, column in zip(DATASET_FIELDS, columns, strict=True)}
        return Datasets(np.array(rows, np.int64), fields)

    def inserted(self, places: Any) -> "Datasets":
        """Room before each of these rows (ascending)."""
        return Datasets(self.rows + np.searchsorted(places, self.rows, side="right"), self.fields)

    def patched(self, rows: Any, values: Sequence[Sequence[DatasetRow]]) -> "Datasets":
        """Other data sets in these rows."""
        kept = np.flatnonzero(~np.isin(self.rows, rows))
        new = [(int(row), entry) for row, entries in zip(rows, values, strict=True) for entry in entries]
        room = np.full(len(new), len(kept))
        fields = {}
        for at, name in enumerate(DATASET_FIELDS):
            texts = self.fields[name]
            left = Texts(texts.codes[kept], texts.values, texts.text_bytes).inserted(room)
            fields[name] = left.patched(np.arange(len(kept), len(kept) + len(new)), [entry[at] for _, entry in new])
        return Datasets(np.concatenate((self.rows[kept], np.array([row for row, _ in new], np.int64))), fields)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes + sum(texts.nbytes for texts in self.fields.values()))

    @property
    def is_stale(self) -> bool:
        """As of Texts."""
        return any(texts.is_stale for texts in self.fields.values())


Column: TypeAlias = Numbers | Texts | Datasets


def _text_bytes(values: Iterable[str]) -> int:
    return sum(len(value) + _TEXT_OVERHEAD for value in values)
