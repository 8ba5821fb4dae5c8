"""Points as columns of a Parquet file, and back into frames. Pure but for the file itself."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runfold_projections.transfer.runs import PointsPiece
from runfold_schemas.events.frames import Frame, Point, from_points

from .layout import NAME_COLUMNS, POINTS, SCHEMAS

ROWS_AT_ONCE = 512 * 1024
"""Points of a row group: what an export and an import hold in memory."""
_ENCODINGS = {"step": "DELTA_BINARY_PACKED", "time_ms": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}


class PointsFile:
    """Writes the points of runs, one row each. A context manager."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            SCHEMAS[POINTS],
            compression="zstd",
            use_dictionary=[*NAME_COLUMNS, "branch", "rank"],
            column_encoding=_ENCODINGS,
            write_page_checksum=True,
        )
        self.rows = 0
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def _clear(self) -> None:
        self._held = 0
        self._numbers: dict[str, list[Any]] = {name: [] for name in ("branch", "rank", "step", "time_ms", "value")}
        self._codes: dict[str, list[Any]] = {name: [] for name in NAME_COLUMNS}
        self._names: dict[str, dict[str, int]] = {name: {} for name in NAME_COLUMNS}

    def add(self, piece: PointsPiece) -> None:
        """Append the points of a frame, row by row."""
        frame = piece.frame
        rows, width = frame.rows, len(frame.keys)
        count = rows * width
        if not count:
            return
        constant = {
            "run_id": piece.run_id,
            "attempt": piece.attempt,
            "model_id": frame.model_id,
            "dataset_name": frame.dataset_name,
            "dataset_digest": frame.dataset_digest,
        }
        for name, text in constant.items():
            self._codes[name].append(np.full(count, self._code(name, text), np.int32))
        self._codes["key"].append(np.tile(np.array([self._code("key", key) for key in frame.keys], np.int32), rows))
        self._numbers["branch"].append(np.full(count, piece.branch, np.int32))
        self._numbers["rank"].append(np.full(count, -1 if piece.rank is None else piece.rank, np.int32))
        self._numbers["step"].append(np.repeat(np.frombuffer(frame.steps, np.int64), width))
        self._numbers["time_ms"].append(np.repeat(np.frombuffer(frame.times, np.int64), width))
        self._numbers["value"].append(np.frombuffer(frame.values, np.float64))
        self._held += count
        if self._held >= ROWS_AT_ONCE:
            self._flush()

    def _code(self, column: str, text: str | None) -> int:
        if text is None:
            return -1
        names = self._names[column]
        return names.setdefault(text, len(names))

    def _flush(self) -> None:
        if not self._held:
            return
        columns = []
        for column in SCHEMAS[POINTS]:
            if column.name in self._codes:
                codes = np.concatenate(self._codes[column.name])
                indices = pa.array(codes, pa.int32(), mask=codes < 0)
                columns.append(
                    pa.DictionaryArray.from_arrays(indices, pa.array(list(self._names[column.name]), pa.string()))
                )
            else:
                numbers = np.concatenate(self._numbers[column.name])
                mask = numbers < 0 if column.name == "rank" else None
                columns.append(pa.array(numbers, column.type, mask=mask))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMAS[POINTS]), row_group_size=self._held)
        self.rows += self._held
        self._clear()


def read_pieces(file: Any) -> Iterator[PointsPiece]:
    """The points of an open points file, in its order: as few frames as their rows allow, one row group at a time in
    memory.
    """
    for number in range(file.num_row_groups):
        table = file.read_row_group(number).combine_chunks()
        names: dict[str, list[str | None]] = {}
        codes: dict[str, Any] = {}
        for column in NAME_COLUMNS:
            values = table.column(column).combine_chunks()
            values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
            names[column] = [*values.dictionary.to_pylist(), None]
            # Null is the last name.
            codes[column] = values.indices.fill_null(len(values.dictionary)).to_numpy(zero_copy_only=False)
        branches, ranks = table.column("branch").to_numpy(), table.column("rank").fill_null(-1).to_numpy()
        steps, times, points = (table.column(name).to_numpy() for name in ("step", "time_ms", "value"))
        stretches = _starts(codes["run_id"], branches, codes["attempt"], ranks, *(codes[name] for name in _CONTEXT))
        for start, stop in zip(stretches, [*stretches[1:], table.num_rows], strict=True):
            part = slice(start, stop)
            run_id, attempt = (names[name][codes[name][start]] for name in ("run_id", "attempt"))
            context = [names[name][codes[name][start]] for name in _CONTEXT]
            rank = None if ranks[start] < 0 else int(ranks[start])
            for frame in _frames(names["key"], codes["key"][part], steps[part], times[part], points[part], context):
                yield PointsPiece(str(run_id), int(branches[start]), str(attempt), rank, frame)


_CONTEXT = ("model_id", "dataset_name", "dataset_digest")


def _starts(*columns: Any) -> list[int]:
    """Where a stretch of equal values begins."""
    new = np.ones(len(columns[0]), bool)
    if len(new):
        new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    found: list[int] = np.flatnonzero(new).tolist()
    return found


def _frames(
    names: Sequence[str | None], keys: Any, steps: Any, times: Any, values: Any, context: Sequence[str | None]
) -> Iterator[Frame]:
    """Points of one step and time that follow each other are a row; rows that follow each other with equal keys are a
    frame.
    """
    starts = np.array(_starts(steps, times))
    widths = np.diff(starts, append=len(keys))
    before = np.arange(len(keys)) - np.repeat(widths, widths)
    same_key = (before >= 0) & (keys == keys[np.maximum(before, 0)])
    goes_on = np.logical_and.reduceat(same_key, starts)
    goes_on[1:] &= widths[1:] == widths[:-1]
    goes_on[0] = False
    blocks = np.flatnonzero(~goes_on)
    for first, last in zip(blocks, [*blocks[1:], len(starts)], strict=True):
        width, begin = int(widths[first]), int(starts[first])
        part = slice(begin, begin + (int(last) - int(first)) * width)
        columns = tuple(str(names[code]) for code in keys[begin : begin + width])
        if len(set(columns)) < width:
            # One key with several values at one step and time: no row has that.
            yield from from_points(
                Point(str(names[key]), value, step, time_ms, *context)
                for key, value, step, time_ms in zip(
                    keys[part].tolist(), values[part].tolist(), steps[part].tolist(), times[part].tolist(), strict=True
                )
            )
            continue
        rows = starts[first:last]
        yield Frame(columns, _array("q", steps[rows]), _array("q", times[rows]), _array("d", values[part]), *context)


def _array(kind: Any, numbers: Any) -> Any:
    made = array(kind)
    made.frombytes(np.ascontiguousarray(numbers).tobytes())
    return made
