"""Columns of a table of runs: NumPy arrays with one entry per run, never changed once made.

A column is updated in two steps, each of which returns a new column: `inserted` makes room for new runs, which have no
value yet, and `patched` sets the values of some rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .dictionary import TextDictionary


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """Numbers (int64 or float64) of shape (runs,). `present` (bool) is False where a run has no value."""

    values: Any
    present: Any

    def inserted(self, places: Any) -> "NumberColumn":
        """Make room before each of these entries (ascending)."""
        return NumberColumn(np.insert(self.values, places, 0), np.insert(self.present, places, False))

    def patched(self, rows: Any, values: Sequence[float | None]) -> "NumberColumn":
        """Set the values of these rows."""
        mine, present = self.values.copy(), self.present.copy()
        present[rows] = [value is not None for value in values]
        mine[rows] = [0 if value is None else value for value in values]
        return NumberColumn(mine, present)

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + self.present.nbytes)


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Texts as codes (int32) of a dictionary, -1 for none. Codes are in the order of their texts, by code points."""

    codes: Any
    values: TextDictionary

    @staticmethod
    def of(values: Iterable[bytes | None]) -> "TextColumn":
        """Make a column of texts in UTF-8."""
        seen: dict[bytes | None, int] = {}
        code = seen.setdefault
        first = np.fromiter((code(value, len(seen)) for value in values), np.int32)
        distinct = sorted(value for value in seen if value is not None)
        place = {value: at for at, value in enumerate(distinct)}
        final = np.array([-1 if value is None else place[value] for value in seen], np.int32)
        return TextColumn(final[first] if len(final) else first, TextDictionary.of(distinct))

    def inserted(self, places: Any) -> "TextColumn":
        """Make room before each of these entries (ascending)."""
        return TextColumn(np.insert(self.codes, places, -1), self.values)

    def patched(self, rows: Any, values: Sequence[str | None]) -> "TextColumn":
        """Set the values of these rows."""
        texts = [None if value is None else value.encode() for value in values]
        new = {text for text in texts if text is not None and self.values.code(text) is None}
        known, codes = self.values, self.codes.copy()
        if new:
            known, moved = self.values.with_texts(new)
            codes = np.append(moved, -1).astype(np.int32)[codes]
        codes[rows] = [-1 if text is None else known.code(text) for text in texts]
        return TextColumn(codes, known)

    def code(self, value: str) -> int | None:
        """Return the code of a text; None if no run has it."""
        return self.values.code(value.encode())

    def having(self, verdicts: Any) -> Any:
        """Return a mask of rows by verdicts on distinct values (bool, one per value)."""
        return np.append(verdicts, False)[self.codes]

    @property
    def nbytes(self) -> int:
        return int(self.codes.nbytes) + self.values.nbytes

    @property
    def is_stale(self) -> bool:
        """Whether most of its distinct values may be outdated, so reloading is better."""
        return len(self.values) > 2 * len(self.codes) + 1000


DatasetRow: TypeAlias = tuple[str, str, str | None]
DATASET_FIELDS = ("name", "digest", "context")


@dataclass(frozen=True, slots=True)
class DatasetColumn:
    """The datasets of all runs: per entry, the run's row (int64) and the dataset's name, digest and context."""

    rows: Any
    fields: dict[str, TextColumn]

    @staticmethod
    def of(rows: Sequence[int], entries: Sequence[DatasetRow]) -> "DatasetColumn":
        """Make a column of entries, and the rows of their runs."""
        fields = {
            name: TextColumn.of(None if (text := entry[at]) is None else text.encode() for entry in entries)
            for at, name in enumerate(DATASET_FIELDS)
        }
        return DatasetColumn(np.array(rows, np.int64), fields)

    def inserted(self, places: Any) -> "DatasetColumn":
        """Make room before each of these rows (ascending)."""
        return DatasetColumn(self.rows + np.searchsorted(places, self.rows, side="right"), self.fields)

    def patched(self, rows: Any, values: Sequence[Sequence[DatasetRow]]) -> "DatasetColumn":
        """Set the datasets of these rows."""
        kept = np.flatnonzero(~np.isin(self.rows, rows))
        new = [(int(row), entry) for row, entries in zip(rows, values, strict=True) for entry in entries]
        room = np.full(len(new), len(kept))
        fields = {}
        for at, name in enumerate(DATASET_FIELDS):
            texts = self.fields[name]
            left = TextColumn(texts.codes[kept], texts.values).inserted(room)
            fields[name] = left.patched(np.arange(len(kept), len(kept) + len(new)), [entry[at] for _, entry in new])
        return DatasetColumn(np.concatenate((self.rows[kept], np.array([row for row, _ in new], np.int64))), fields)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes + sum(texts.nbytes for texts in self.fields.values()))

    @property
    def is_stale(self) -> bool:
        """Whether a field is stale, see `TextColumn`."""
        return any(texts.is_stale for texts in self.fields.values())


Column: TypeAlias = NumberColumn | TextColumn | DatasetColumn
