"""Frames joined by key list and context, so that a batch of many small frames becomes a few large ones."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from runfold_projections.core.turns import Turns
from runfold_schemas.events.frames import Frame

_T = TypeVar("_T")

RowOffsets = Sequence[tuple[int, int]]
"""The log offsets of a frame's rows, in their order, run-length encoded: (offset, rows)."""
LocatedFrame = tuple[Frame, NDArray[np.int64]]
"""A frame and the log offset of each of its rows, of shape (rows,)."""


class FrameGroups(Generic[_T]):
    """Collects frames with equal keys and context, and a payload of each."""

    def __init__(self) -> None:
        self._groups: dict[tuple[object, ...], tuple[list[Frame], list[_T]]] = {}

    def add(self, frame: Frame, payload: _T) -> None:
        """Add a frame to its group, unless it is empty."""
        if not frame.rows or not frame.keys:
            return
        kind = (frame.keys, frame.model_id, frame.dataset_name, frame.dataset_digest)
        group = self._groups.get(kind)
        if group is None:
            self._groups[kind] = ([frame], [payload])
        else:
            group[0].append(frame)
            group[1].append(payload)

    def joined(self) -> list[tuple[Frame, list[_T]]]:
        """Join each group into one frame, in the order of first appearance, with the payloads of its parts."""
        return [
            (frames[0] if len(frames) == 1 else _concatenated(frames), payloads)
            for frames, payloads in self._groups.values()
        ]


def join_frames(frames: Iterable[Frame]) -> list[Frame]:
    """Join frames with equal keys and context, in the order of first appearance; rows keep their order."""
    return [frame for frame, _ in join_frames_with(zip(frames, repeat(None), strict=False))]


def join_frames_with(frames: Iterable[tuple[Frame, _T]]) -> list[tuple[Frame, list[_T]]]:
    """Join as `join_frames`, and collect the payloads of the parts of each joined frame."""
    groups = FrameGroups[_T]()
    for frame, payload in frames:
        groups.add(frame, payload)
    return groups.joined()


async def join_in_slices(parts: Sequence[tuple[Frame, int]], turns: Turns) -> tuple[list[Frame], list[RowOffsets]]:
    """Join frames that each came at one log offset, yielding to the event loop when a turn is over."""
    groups = FrameGroups[tuple[int, int]]()
    for frame, offset in parts:
        if turns.is_over:
            await turns.end()
        groups.add(frame, (offset, frame.rows))
    found = groups.joined()
    return [frame for frame, _ in found], [offsets for _, offsets in found]


def rows_before(frame: Frame, offsets: NDArray[np.int64], end_offset: int) -> Frame:
    """Keep the rows that came before an offset. `offsets` has one entry per row."""
    kept = offsets < end_offset
    if kept.all():
        return frame
    values = np.frombuffer(frame.values, np.float64).reshape(frame.rows, len(frame.keys))
    return replace(
        frame,
        steps=array("q", np.frombuffer(frame.steps, np.int64)[kept].tobytes()),
        times=array("q", np.frombuffer(frame.times, np.int64)[kept].tobytes()),
        values=array("d", values[kept].tobytes()),
    )


def _concatenated(group: Sequence[Frame]) -> Frame:
    first = group[0]
    steps, times, values = array("q"), array("q"), array("d")
    for frame in group:
        steps.extend(frame.steps)
        times.extend(frame.times)
        values.extend(frame.values)
    return Frame(first.keys, steps, times, values, first.model_id, first.dataset_name, first.dataset_digest)
