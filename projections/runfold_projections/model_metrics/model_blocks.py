"""Metrics of logged models from wide rows: the same join as in model_metrics.py, for many keys at once.

All keys of a frame have the same latest time and step, so their metrics are three arrays. A block holds up to 512 keys
that were logged together; a key that was also logged with others has several blocks, and its metric is the join of
them.
"""

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runfold_schemas.bounded_cache import BoundedCache, names_cost
from runfold_schemas.events.frames import Frame

from .model_metrics import mark_of, summarize_frame

WIDE = 64
"""Keys of a frame from which on it goes into blocks."""
_MOST_KEYS = 512


class BlockOf(NamedTuple):
    """Identity of a block: the model, the run, the dataset, and the keys, identified by `layout`.

    No dataset: empty names.
    """

    model_id: str
    run_id: str
    dataset_name: str
    dataset_digest: str
    layout: bytes

    @property
    def dataset(self) -> bytes:
        """Return the id of the dataset, as `Measured.dataset` does."""
        return mark_of(self.dataset_name, self.dataset_digest)


@dataclass(frozen=True, slots=True)
class ModelBlock:
    """Float64 arrays in the order of the sorted `keys`: values with the largest (time, step, value), NaN above numbers;
    extremes.

    A key whose values are all NaN has a least of NaN and a most of -inf, so that the join is a plain minimum and
    maximum.
    """

    keys: tuple[str, ...]
    time_ms: int
    step: int
    latest: NDArray[np.float64]
    least: NDArray[np.float64]
    most: NDArray[np.float64]


class ModelBlocks:
    """Metrics of logged models in some wide frames."""

    def __init__(self) -> None:
        self._found: dict[BlockOf, ModelBlock] = {}

    def add(self, run_id: str, frame: Frame) -> None:
        """Join the points of a frame, if it names a model."""
        if not frame.model_id or not frame.rows:
            return
        time_ms, step, latest, least, most = summarize_frame(frame)
        most = np.where(np.isnan(most), -np.inf, most)
        for layout, keys, places in _cut(frame.keys):
            of = BlockOf(frame.model_id, run_id, frame.dataset_name or "", frame.dataset_digest or "", layout)
            block = ModelBlock(keys, time_ms, step, latest[places], least[places], most[places])
            known = self._found.get(of)
            self._found[of] = block if known is None else join(known, block)

    def drain(self) -> dict[BlockOf, ModelBlock]:
        """Return what was joined since the last call."""
        found, self._found = self._found, {}
        return found


def join(one: ModelBlock, other: ModelBlock) -> ModelBlock:
    """Join two blocks of the same keys."""
    if (one.time_ms, one.step) == (other.time_ms, other.step):
        newer, latest = one, np.maximum(one.latest, other.latest)
    else:
        newer = max(one, other, key=lambda block: (block.time_ms, block.step))
        latest = newer.latest
    least, most = np.fmin(one.least, other.least), np.fmax(one.most, other.most)
    return ModelBlock(one.keys, newer.time_ms, newer.step, latest, least, most)


_Parts = tuple[tuple[bytes, tuple[str, ...], NDArray[np.int64]], ...]
_parts: BoundedCache[tuple[str, ...], _Parts] = BoundedCache(8 * 1024 * 1024)


def _cut(keys: tuple[str, ...]) -> _Parts:
    """Split the keys into parts: each with its layout, its sorted keys, and their places."""
    found = _parts.get(keys)
    if found is None:
        found = _newly_cut(keys)
        _parts.put(keys, found, 2 * names_cost(keys))
    return found


def _newly_cut(keys: tuple[str, ...]) -> _Parts:
    order = sorted(range(len(keys)), key=keys.__getitem__)
    found = []
    for start in range(0, len(order), _MOST_KEYS):
        places = order[start : start + _MOST_KEYS]
        part = tuple(keys[place] for place in places)
        found.append((blake2b(json.dumps(part).encode(), digest_size=16).digest(), part, np.array(places)))
    return tuple(found)
