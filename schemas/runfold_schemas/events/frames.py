"""Frames: metric points as columns. A row is what one log call wrote; consecutive rows with equal keys are a frame."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from runfold_schemas.bounded_cache import BoundedCache, names_cost

MAX_FRAME_BYTES = 512 * 1024
"""Writers split frames so that an event's body stays below this size."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A block of points: `values[r * len(keys) + k]` is key k at row r, of step `steps[r]` and time `times[r]` (ms).

    Arrays are `array('q')` for steps and times and `array('d')` for values, so that the room needs no NumPy;
    `numpy.frombuffer` views them without a copy.
    """

    keys: tuple[str, ...]
    steps: "array[int]"
    times: "array[int]"
    values: "array[float]"
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    @property
    def rows(self) -> int:
        return len(self.steps)


class Point(NamedTuple):
    """One value of one key, as a caller logs it; time in ms since the epoch."""

    key: str
    value: float
    step: int
    time_ms: int
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


Context = tuple[str | None, str | None, str | None]
Place = tuple[Context, int, int]
Cells = dict[str, float]


def from_points(points: Iterable[Point]) -> tuple[Frame, ...]:
    """Pack points into few frames: those of one step, time and context are a row, rows with equal keys a frame.

    A series is a set of points, so their order is not kept.
    """
    rows: dict[Place, Cells] = {}
    again: list[tuple[Place, Cells]] = []
    for key, value, step, time_ms, model_id, dataset_name, dataset_digest in points:
        place = ((model_id, dataset_name, dataset_digest), step, time_ms)
        cells = rows.setdefault(place, {})
        if key in cells:
            again.append((place, {key: value}))
        else:
            cells[key] = value
    blocks: dict[tuple[Context, tuple[str, ...]], list[tuple[Place, Cells]]] = {}
    for row in chain(rows.items(), again):
        (context, _, _), cells = row
        blocks.setdefault((context, tuple(cells)), []).append(row)
    return tuple(
        Frame(
            keys,
            array("q", [step for (_, step, _), _ in block]),
            array("q", [time_ms for (_, _, time_ms), _ in block]),
            array("d", [value for _, cells in block for value in cells.values()]),
            *context,
        )
        for (context, keys), block in blocks.items()
    )


_FEW_KEYS = 8
_key_bytes: BoundedCache[tuple[str, ...], int] = BoundedCache(8 * 1024 * 1024)


def most_key_bytes(keys: tuple[str, ...]) -> int:
    """What a key list takes at most when it is encoded.

    Long ones are remembered: a training logs the same few again and again.
    """
    found = None if len(keys) <= _FEW_KEYS else _key_bytes.get(keys)
    if found is None:
        found = sum(len(key.encode()) + 5 for key in keys)
        if len(keys) > _FEW_KEYS:
            _key_bytes.put(keys, found, names_cost(keys))
    return found


def split(frame: Frame, most_bytes: int = MAX_FRAME_BYTES) -> Iterator[Frame]:
    """Cut a frame into frames whose encoding stays below `most_bytes`: by rows, and a row too wide by keys.

    Each key's points stay in their order; cut by rows, all points do.
    """
    context = (frame.model_id, frame.dataset_name, frame.dataset_digest)
    # Five bytes are a text's longest length, twenty a row's longest deltas; 64 cover counts, ends and union branches.
    key_bytes = most_key_bytes(frame.keys) + sum(len(text.encode()) + 5 for text in context if text) + 64
    row_bytes = 8 * len(frame.keys) + 20
    if key_bytes + row_bytes * frame.rows <= most_bytes:
        yield frame
    elif key_bytes + row_bytes <= most_bytes or len(frame.keys) == 1:
        step = max(1, (most_bytes - key_bytes) // row_bytes)
        for at in range(0, frame.rows, step):
            yield _rows(frame, at, at + step)
    else:
        half = len(frame.keys) // 2
        yield from split(_columns(frame, 0, half), most_bytes)
        yield from split(_columns(frame, half, len(frame.keys)), most_bytes)


def _rows(frame: Frame, start: int, stop: int) -> Frame:
    width = len(frame.keys)
    return Frame(
        frame.keys,
        frame.steps[start:stop],
        frame.times[start:stop],
        frame.values[start * width : stop * width],
        frame.model_id,
        frame.dataset_name,
        frame.dataset_digest,
    )


def _columns(frame: Frame, start: int, stop: int) -> Frame:
    width = len(frame.keys)
    values = array("d")
    for row in range(frame.rows):
        values.extend(frame.values[row * width + start : row * width + stop])
    return Frame(
        frame.keys[start:stop],
        frame.steps,
        frame.times,
        values,
        frame.model_id,
        frame.dataset_name,
        frame.dataset_digest,
    )
