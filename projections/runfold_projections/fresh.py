"""Metric points at rest: a batch's frames of one (run, attempt, rank), merged by key list and compressed."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import cramjam
import numpy as np

from runfold_schemas import metrics_codec
from runfold_schemas.frames import Frame

_LEVEL = 1


def merge(frames: Iterable[Frame]) -> list[Frame]:
    """Frames with equal keys and context become one, in the order of first appearance; rows keep their order."""
    groups: dict[tuple[object, ...], list[Frame]] = {}
    for frame in frames:
        if frame.rows and frame.keys:
            groups.setdefault((frame.keys, frame.model_id, frame.dataset_name, frame.dataset_digest), []).append(frame)
    return [group[0] if len(group) == 1 else _joined(group) for group in groups.values()]


def _joined(group: list[Frame]) -> Frame:
    first = group[0]
    steps, times, values = array("q"), array("q"), array("d")
    for frame in group:
        steps.extend(frame.steps)
        times.extend(frame.times)
        values.extend(frame.values)
    return Frame(first.keys, steps, times, values, first.model_id, first.dataset_name, first.dataset_digest)


def pack(frames: Sequence[Frame]) -> bytes:
    """Bytes of a segment. The frames' columns are written as on the wire, whose codec has its law tested."""
    return bytes(cramjam.zstd.compress(metrics_codec.encode_frames(frames), level=_LEVEL))


def read_all(data: bytes) -> tuple[Frame, ...]:
    """The frames of a segment."""
    return metrics_codec.decode_frames(bytes(cramjam.zstd.decompress(data)))


def read_key(data: bytes, key: str) -> tuple[Any, Any, Any]:
    """Steps (int64), times (int64, ms) and values (float64) of one key in a segment, as NumPy arrays."""
    steps, times, values = [], [], []
    for frame in read_all(data):
        if key in frame.keys:
            column = frame.keys.index(key)
            steps.append(np.frombuffer(frame.steps, np.int64))
            times.append(np.frombuffer(frame.times, np.int64))
            table: Any = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
            values.append(table[:, column])
    if not steps:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    return np.concatenate(steps), np.concatenate(times), np.concatenate(values)
