"""The runs of some experiments as columns, in the default order of searches: latest start first, then by id."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runfold_projections.search.tree import Key

from .columns import Column, DatasetColumn, TextColumn


class RunRow(NamedTuple):
    """The fields of a run in every table; `start_ms` by the writer's clock."""

    run_id: str
    start_ms: int
    experiment_id: int
    deleted: bool


def id_width(run_ids: Iterable[bytes], least: int = 8) -> int:
    """Return the width in bytes of an array of these ids: a multiple of eight."""
    return -(-max(least, *map(len, run_ids), 0) // 8) * 8


@dataclass(frozen=True, slots=True)
class RunTable:
    """An immutable table: four arrays of shape (runs,), and the columns that were needed so far.

    `run_ids` are ASCII bytes of a width of `id_width`, `start_ms` and `experiment_ids` int64, `deleted` bool.
    """

    run_ids: NDArray[np.bytes_]
    start_ms: NDArray[np.int64]
    experiment_ids: NDArray[np.int64]
    deleted: NDArray[np.bool_]
    columns: Mapping[Key, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.run_ids)

    @property
    def nbytes(self) -> int:
        """Approximate size in memory."""
        base = (self.run_ids, self.start_ms, self.experiment_ids, self.deleted)
        return sum(int(array.nbytes) for array in base) + sum(column.nbytes for column in self.columns.values())

    def with_columns(self, columns: Mapping[Key, Column]) -> "RunTable":
        """Return the table with these columns added."""
        return replace(self, columns={**self.columns, **columns})

    def only(self, keys: Collection[Key]) -> "RunTable":
        """Return the table without other columns."""
        return replace(self, columns={key: column for key, column in self.columns.items() if key in keys})

    def without_stale(self) -> "RunTable":
        """Return the table without columns that should be reloaded."""
        return self.only(
            [
                key
                for key, column in self.columns.items()
                if not isinstance(column, TextColumn | DatasetColumn) or not column.is_stale
            ]
        )

    def ids(self, rows: Any) -> list[str]:
        """Return the ids of the runs in these rows."""
        return [run_id.decode() for run_id in self.run_ids[rows].tolist()]

    def refreshed(self, runs: Sequence[RunRow], values: Mapping[Key, Sequence[Any]]) -> "RunTable":
        """Return the table after these runs changed or were added; `values` are theirs, per column, run by run."""
        if not runs:
            return self
        encoded = [run.run_id.encode() for run in runs]
        order = sorted(range(len(runs)), key=lambda at: (-runs[at].start_ms, encoded[at]))
        found = [self._place(runs[at].start_ms, encoded[at]) for at in order]
        places = np.array([place for place, there in found if not there], np.int64)
        rows = np.array([place for place, _ in found], np.int64)
        # A run's new row counts the old and the new runs before it.
        new = np.array([not there for _, there in found], bool)
        rows = rows + np.where(new, np.cumsum(new) - 1, np.searchsorted(places, rows, side="right"))
        sorted_runs = [runs[at] for at in order]
        table = self._inserted(places, encoded) if len(places) else self
        if len(places):
            # These arrays were just made, so they may be changed in place.
            new_rows = rows[new]
            table.run_ids[new_rows] = [encoded[at] for at, is_new in zip(order, new, strict=True) if is_new]
            table.start_ms[new_rows] = [run.start_ms for run, is_new in zip(sorted_runs, new, strict=True) if is_new]
            table.experiment_ids[new_rows] = [
                run.experiment_id for run, is_new in zip(sorted_runs, new, strict=True) if is_new
            ]
        deleted = table.deleted.copy()
        deleted[rows] = [run.deleted for run in sorted_runs]
        columns = {
            key: column.patched(rows, [values[key][at] for at in order]) for key, column in table.columns.items()
        }
        return replace(table, deleted=deleted, columns=columns).without_stale()

    def _inserted(self, places: Any, run_ids: Sequence[bytes]) -> "RunTable":
        width = id_width(run_ids, self.run_ids.dtype.itemsize)
        return RunTable(
            np.insert(self.run_ids.astype(f"S{width}", copy=False), places, b""),
            np.insert(self.start_ms, places, 0),
            np.insert(self.experiment_ids, places, 0),
            np.insert(self.deleted, places, False),
            {key: column.inserted(places) for key, column in self.columns.items()},
        )

    def _place(self, start_ms: int, run_id: bytes) -> tuple[int, bool]:
        """Return the row where a run is or belongs, and whether it is there."""
        ascending = self.start_ms[::-1]
        first = len(self) - int(np.searchsorted(ascending, start_ms, side="right"))
        last = len(self) - int(np.searchsorted(ascending, start_ms, side="left"))
        at = first + int(np.searchsorted(self.run_ids[first:last], run_id))
        return at, at < last and self.run_ids[at] == run_id
