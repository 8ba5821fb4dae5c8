"""Latest, smallest and largest value of every key of a run, as columns: a frame of thousands of keys is a few array
operations.

The summary of a key is a join of its points, so frames may come in any order, cut anywhere, and twice.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from struct import pack, unpack_from
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from runfold_schemas.events.frames import Frame

from .keys import BLOCK, FEW_KEYS, Keys, Layouts, Places

FEW_VALUES = 512
"""Frames of few keys up to this size are summarized without NumPy, which takes 50 us however small they are."""
_FIRST_ROOM = 8
_RUN_BYTES, _KEY_BYTES, _CONTEXT_BYTES = 2000, 41, 200
"""Measured bytes: of a run with its branches; of a key's numbers; of a key's context."""

T = TypeVar("T", np.float64, np.int64, np.bool_)
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Context = tuple[str | None, str | None, str | None]
Cell = tuple[int, int, float, bool, bool, str, str, str]
NO_CONTEXT: Context = (None, None, None)
OF_ALL = ""
"""Place of a context that all keys of a block share."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The value of one key with the largest (step, time, value), as in MLflow's store, where NaN counts as 0."""

    value: float
    step: int
    time_ms: int
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    def order(self) -> Cell:
        """Return a sort key of a total order, so that a join does not depend on the order of arrival."""
        nan = math.isnan(self.value)
        rank = 0.0 if nan else self.value
        positive = math.copysign(1.0, self.value) > 0
        context = (self.model_id or "", self.dataset_name or "", self.dataset_digest or "")
        return (self.step, self.time_ms, rank, nan, positive, *context)


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of one key of a run: the latest value and the extremes, None if all values are NaN."""

    latest: Latest
    least: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class Block:
    """A stored block. `numbers` has big-endian 8-byte columns: latest values, least, most (float64), steps, times
    (int64).

    Steps and times have one element if all keys share it. `contexts` maps places in the block to contexts; '' to one
    context of all keys.
    """

    keys: Sequence[str]
    numbers: bytes
    contexts: dict[str, Context] | None = None

    def columns(self) -> tuple[Floats, Floats, Floats, Ints, Ints]:
        """Return values, least, most (float64, NaN for none), steps and times (int64)."""
        count = len(self.keys)
        reals = np.frombuffer(self.numbers, ">f8", 3 * count).astype(np.float64).reshape(3, count)
        whole = np.frombuffer(self.numbers, ">i8", offset=24 * count).astype(np.int64)
        steps, times = np.broadcast_to(whole.reshape(2, -1), (2, count))
        return (*reals, steps, times)

    def latest(self) -> Iterator[tuple[str, float, int, int, Context]]:
        """Yield key, value, step, time and context of each key.

        Faster than `summaries`: a page of a search has thousands.
        """
        count = len(self.keys)
        numbers = self.numbers
        values = unpack_from(f">{count}d", numbers)
        whole = unpack_from(f">{(len(numbers) - 24 * count) // 8}q", numbers, 24 * count)
        steps, times = (repeat(whole[0]), repeat(whole[1])) if len(whole) == 2 else (whole[:count], whole[count:])
        return zip(self.keys, values, steps, times, self._each(count), strict=False)

    def summaries(self) -> Iterator[tuple[str, Summary]]:
        """Yield the summary of each key."""
        columns = (column.tolist() for column in self.columns())
        rows = zip(self.keys, *columns, self._each(len(self.keys)), strict=False)
        for key, value, least, most, step, time, context in rows:
            yield key, Summary(Latest(value, step, time, *context), _number(least), _number(most))

    def placed(self) -> Iterator[tuple[int, Context]]:
        """Yield the places of keys that have a context, with it."""
        for n, context in enumerate(self._each(len(self.keys)) if self.contexts else ()):
            if context is not NO_CONTEXT:
                yield n, context

    def _each(self, count: int) -> Iterable[Context]:
        held = self.contexts
        if held is None or OF_ALL in held:
            return repeat(NO_CONTEXT if held is None else held[OF_ALL], count)
        return (held.get(str(n), NO_CONTEXT) for n in range(count))


class Summaries(Mapping[str, Summary]):
    """Summaries of one run by key."""

    def __init__(self, layouts: Layouts | None = None) -> None:
        self._layouts = layouts or Layouts()
        self._dirty: set[int] = set()
        self._grown: set[int] = set()
        self._keys, self._size = self._layouts.empty, 0
        self._value, self._least, self._most = (np.empty(0, np.float64) for _ in range(3))
        self._step, self._time = np.empty(0, np.int64), np.empty(0, np.int64)
        self._there = np.empty(0, bool)
        self._contexts: dict[int, Context] = {}

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __getitem__(self, key: str) -> Summary:
        at = self._number(key)
        if at is None:
            raise KeyError(key)
        latest = Latest(
            float(self._value[at]),
            int(self._step[at]),
            int(self._time[at]),
            *self._contexts.get(at, NO_CONTEXT),
        )
        return Summary(latest, _number(self._least[at]), _number(self._most[at]))

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return -(-len(self) // BLOCK)

    @property
    def size(self) -> int:
        """Approximate bytes of memory, without the key names, which other runs may share."""
        return _RUN_BYTES + len(self._value) * _KEY_BYTES + len(self._contexts) * _CONTEXT_BYTES

    @property
    def keys_held(self) -> Keys:
        """The shared list of names; the run's own are the first ones."""
        return self._keys

    def beyond(self, step: int) -> set[str]:
        """Return the keys whose latest value has a greater step."""
        size = len(self)
        return {self._keys.names[at] for at in np.flatnonzero(self._step[:size] > step)}

    def add(self, frame: Frame) -> None:
        """Join the points of a frame."""
        rows, width = frame.rows, len(frame.keys)
        if not rows or not width:
            return
        if width <= FEW_KEYS and len(frame.values) <= FEW_VALUES and self._add_few(frame):
            return
        steps: Ints = np.frombuffer(frame.steps, np.int64)
        times: Ints = np.frombuffer(frame.times, np.int64)
        values: Floats = np.frombuffer(frame.values, np.float64).reshape(rows, width)
        context = _context(frame)
        places = self._at(frame.keys)
        if places.once:
            self._join(places.numbers, steps, times, values, context)
        else:
            # A frame of a foreign writer may name a key twice: then each column is joined by itself.
            for n in range(width):
                self._join(places.numbers[n : n + 1], steps, times, values[:, n : n + 1], context)
        self._dirty |= places.blocks

    def _add_few(self, frame: Frame) -> bool:
        """Join the points of a small frame; return False, without any change, if it needs the general way."""
        total = sum(frame.values)
        places = self._at(frame.keys)
        if total != total or not places.once:
            return False
        context = _context(frame)
        step = max(frame.steps)
        newest = [row for row, one in enumerate(frame.steps) if one == step]
        time = max([frame.times[row] for row in newest])
        newest = [row for row in newest if frame.times[row] == time]
        width = len(places.few)
        for n, at in enumerate(places.few):
            column = frame.values[n::width]
            least, most = min(column) + 0.0, max(column) + 0.0
            # Written so that NaN, which means no value, loses.
            if not self._least.item(at) <= least:
                self._least[at] = least
            if not self._most.item(at) >= most:
                self._most[at] = most
            for row in newest:
                self._take_one(at, step, time, column[row], context)
        self._dirty |= places.blocks
        return True

    def _take_one(self, at: int, step: int, time: int, value: float, context: Context) -> None:
        if self._there.item(at):
            own = (self._step.item(at), self._time.item(at))
            if own > (step, time):
                return
            if own == (step, time) and Latest(value, step, time, *context).order() <= self._latest(at).order():
                return
        self._value[at], self._step[at], self._time[at], self._there[at] = value, step, time, True
        if self._contexts or context != NO_CONTEXT:
            self._set_context(at, context)

    def put(self, key: str, summary: Summary) -> None:
        """Set the summary of a key."""
        at = int(self._at((key,)).numbers[0])
        latest = summary.latest
        self._value[at], self._step[at], self._time[at] = latest.value, latest.step, latest.time_ms
        self._least[at] = math.nan if summary.least is None else summary.least
        self._most[at] = math.nan if summary.most is None else summary.most
        self._there[at] = True
        self._set_context(at, (latest.model_id, latest.dataset_name, latest.dataset_digest))
        self._dirty.add(at // BLOCK)

    def join(self, other: "Summaries") -> None:
        """Join other summaries key by key, as if their points had been added."""
        size = len(other)
        if not size:
            return
        places = self._at(tuple(other._names()))
        at = places.numbers
        self._least[at] = np.fmin(self._least[at], other._least[:size])
        self._most[at] = np.fmax(self._most[at], other._most[:size])
        steps, times = other._step[:size], other._time[:size]
        newer = ~self._there[at] | (self._step[at] < steps) | ((self._step[at] == steps) & (self._time[at] < times))
        for n in np.flatnonzero(self._there[at] & (self._step[at] == steps) & (self._time[at] == times)).tolist():
            newer[n] = other._latest(n).order() > self._latest(int(at[n])).order()
        for name in ("_value", "_step", "_time", "_there"):
            getattr(self, name)[at[newer]] = getattr(other, name)[:size][newer]
        if self._contexts or other._contexts:
            for n in np.flatnonzero(newer).tolist():
                self._set_context(int(at[n]), other._contexts.get(n, NO_CONTEXT))
        self._dirty |= places.blocks

    def replace(self, keys: Collection[str], found: "Summaries") -> None:
        """Replace the summaries of these keys by others; keys without one are dropped, and the rest renumbered."""
        there = tuple(key for key in keys if key in found)
        if len(there) < len(keys):
            self._keep([key for key in self._names() if key not in keys or key in found])
        if not there:
            return
        places = self._at(there)
        at, of = places.numbers, found._at(there).numbers
        for name in ("_value", "_least", "_most", "_step", "_time", "_there"):
            getattr(self, name)[at] = getattr(found, name)[of]
        for place, other in zip(at.tolist(), of.tolist(), strict=True):
            self._set_context(place, found._contexts.get(other, NO_CONTEXT))
        self._dirty |= places.blocks

    def _keep(self, names: Sequence[str]) -> None:
        """Drop all keys but these."""
        before, at = self.blocks, np.array([self._keys.number[name] for name in names], np.int64)
        contexts = self._contexts
        self._keys, self._size = self._layouts.known(names), len(names)
        self._value, self._least, self._most = self._value[at], self._least[at], self._most[at]
        self._step, self._time, self._there = self._step[at], self._time[at], self._there[at]
        self._contexts = {n: contexts[old] for n, old in enumerate(at.tolist()) if old in contexts}
        self._dirty = set(range(max(before, self.blocks)))
        self._grown = set(self._dirty)

    def block(self, number: int) -> Block:
        """Return one block, to be stored."""
        piece = slice(number * BLOCK, min(len(self), (number + 1) * BLOCK))
        if piece.stop - piece.start <= FEW_KEYS:
            return self._small_block(piece)
        steps, times = self._step[piece], self._time[piece]
        if not ((steps == steps[0]).all() and (times == times[0]).all()):
            whole = (steps, times)
        else:
            whole = (steps[:1], times[:1])
        columns = (self._value[piece], self._least[piece], self._most[piece], *whole)
        numbers = b"".join(column.astype(column.dtype.newbyteorder(">")).tobytes() for column in columns)
        return Block(self._keys.names[piece], numbers, self._contexts_of(piece))

    def _small_block(self, piece: slice) -> Block:
        values, least, most, steps, times = (
            column[piece].tolist() for column in (self._value, self._least, self._most, self._step, self._time)
        )
        if steps.count(steps[0]) == len(steps) and times.count(times[0]) == len(times):
            steps, times = steps[:1], times[:1]
        numbers = pack(f">{3 * len(values)}d{2 * len(steps)}q", *values, *least, *most, *steps, *times)
        return Block(self._keys.names[piece], numbers, self._contexts_of(piece))

    def _contexts_of(self, piece: slice) -> dict[str, Context] | None:
        if not self._contexts:
            return None
        own = [self._contexts.get(at) for at in range(piece.start, piece.stop)]
        first = own[0]
        if first is not None and own.count(first) == len(own):
            return {OF_ALL: first}
        return {str(n): context for n, context in enumerate(own) if context is not None} or None

    def restore(self, blocks: Sequence[Block]) -> None:
        """Load stored blocks: all of the run, in order."""
        for block in blocks:
            self.restore_next(block)

    def restore_next(self, block: Block) -> None:
        """Load the next stored block."""
        start, stop = self._size, self._size + len(block.keys)
        self._keys, self._size = self._layouts.extended(self._keys, start, block.keys), stop
        self._make_room(stop)
        piece = slice(start, stop)
        self._there[piece] = True
        self._value[piece], self._least[piece], self._most[piece], self._step[piece], self._time[piece] = (
            block.columns()
        )
        for place, context in block.placed():
            self._contexts[start + place] = tuple(context)  # type: ignore[assignment]

    def drain_changed(self) -> tuple[set[int], set[int]]:
        """Return the blocks that changed since the last call, and those of them whose keys changed."""
        dirty, grown = self._dirty | self._grown, self._grown
        self._dirty, self._grown = set(), set()
        return dirty, grown

    def _at(self, keys: tuple[str, ...]) -> Places:
        found = self._keys.places(keys, self._size)
        if found is None:
            size, new = self._size, self._keys.new(keys, self._size)
            self._keys, self._size = self._layouts.extended(self._keys, size, new), size + len(new)
            self._make_room(self._size)
            self._grown.update(range(size // BLOCK, self.blocks))
            found = self._keys.places(keys, self._size)
            assert found is not None
        return found

    def _names(self) -> list[str]:
        return self._keys.names[: self._size]

    def _number(self, key: object) -> int | None:
        at = self._keys.number.get(key) if isinstance(key, str) else None
        return None if at is None or at >= self._size else at

    def __contains__(self, key: object) -> bool:
        return self._number(key) is not None

    def _make_room(self, size: int) -> None:
        if size <= len(self._value):
            return
        room = max(size, 2 * len(self._value), _FIRST_ROOM)
        self._value = _wider(self._value, room, 0)
        self._step, self._time = _wider(self._step, room, 0), _wider(self._time, room, 0)
        self._least, self._most = _wider(self._least, room, math.nan), _wider(self._most, room, math.nan)
        self._there = _wider(self._there, room, False)

    def _join(self, at: Ints, steps: Ints, times: Ints, values: Floats, context: Context) -> None:
        # Adding 0.0 turns -0.0 into 0.0: an extreme must not depend on the order of arrival.
        self._least[at] = np.fmin(self._least[at], np.fmin.reduce(values, axis=0) + 0.0)
        self._most[at] = np.fmax(self._most[at], np.fmax.reduce(values, axis=0) + 0.0)
        newest = np.flatnonzero(steps == steps.max())
        newest = newest[times[newest] == times[newest].max()]
        step, time = int(steps[newest[0]]), int(times[newest[0]])
        for row in newest:
            self._join_row(at, step, time, values[row], context)

    def _join_row(self, at: Ints, step: int, time: int, values: Floats, context: Context) -> None:
        there, own_step, own_time = self._there[at], self._step[at], self._time[at]
        newer = ~there | (own_step < step) | ((own_step == step) & (own_time < time))
        for n in np.flatnonzero(there & (own_step == step) & (own_time == time)).tolist():
            newer[n] = Latest(float(values[n]), step, time, *context).order() > self._latest(int(at[n])).order()
        places = at[newer]
        self._value[places], self._step[places], self._time[places] = values[newer], step, time
        self._there[places] = True
        if context != NO_CONTEXT:
            self._contexts.update(dict.fromkeys(places.tolist(), context))
        elif self._contexts:
            for place in places.tolist():
                self._contexts.pop(place, None)

    def _latest(self, at: int) -> Latest:
        context = self._contexts.get(at, NO_CONTEXT)
        return Latest(float(self._value[at]), int(self._step[at]), int(self._time[at]), *context)

    def _set_context(self, at: int, context: Context) -> None:
        if context == NO_CONTEXT:
            self._contexts.pop(at, None)
        else:
            self._contexts[at] = context


def _wider(old: NDArray[T], room: int, nothing: float) -> NDArray[T]:
    new = np.full(room, nothing, old.dtype)
    new[: len(old)] = old
    return new


def _context(frame: Frame) -> Context:
    # An empty name counts as None: otherwise the two would tie, and the order of arrival would decide.
    return (frame.model_id or None, frame.dataset_name or None, frame.dataset_digest or None)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
