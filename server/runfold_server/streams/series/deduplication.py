"""Deduplication of a stream's points: each is sent once.

A point that an event logs again, such as that of a client which repeated a request after a lost answer, was sent
before, or was in the history that the stream continues.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runfold_projections.series.duplicates import Duplicates, LoggedPoints, find_duplicates, last_steps, rows_of
from runfold_server.reads.reader import Reader
from runfold_server.streams.patient_reads import read_when_available

from .subscription import SeriesKey

MAX_KNOWN = 50_000
"""Series by attempt and rank that a stream keeps a bound of; beyond that it forgets all and looks them up again."""
_NO_STEP = -(2**63)


@dataclass(slots=True)
class _Known:
    """Bounds of what was logged to a series: no greater step than `last_step`; with steps from `first` to `last`, no
    later time.
    """

    last_step: int
    first: int = 0
    last: int = -1
    latest_ms: int = 0

    def may_have(self, points: LoggedPoints) -> bool:
        """Whether any of the points may have been logged before."""
        lowest, highest = int(points.steps.min()), int(points.steps.max())
        if lowest > self.last_step:
            return False
        return not (self.first <= lowest and highest <= self.last and int(points.times.min()) > self.latest_ms)

    def include(self, points: LoggedPoints) -> None:
        """Widen the bounds by these points."""
        self.last_step = max(self.last_step, int(points.steps.max()))
        self.latest_ms = max(self.latest_ms, int(points.times.max()))


class Deduplicator:
    """Removes points that were logged before. It keeps bounds of what it saw, so that points that come in order cost
    no look-up.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[SeriesKey, _Known] = {}

    async def new_points(self, points: Sequence[LoggedPoints]) -> list[LoggedPoints]:
        """Those of these points, in the order of the log, that no earlier event had logged. Waits for as long as
        Postgres is away.

        The fold has passed all of them: it had when they were read from the log.
        """
        await self._load_bounds(points)
        doubtful: list[int] = []
        for n, one in enumerate(points):
            known = self._known[_key(one)]
            if known.may_have(one):
                doubtful.append(n)
            known.include(one)
        before = dict(zip(doubtful, await self._logged_before([points[n] for n in doubtful]), strict=True))
        for n, found in before.items():
            self._narrow(points[n], found)
        return list(_once(_without(points, before)))

    async def _load_bounds(self, points: Sequence[LoggedPoints]) -> None:
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        new = {_key(one): one for one in reversed(points) if _key(one) not in self._known}
        if new:
            steps = await read_when_available(
                self._reader, lambda connection: last_steps(connection, list(new.values()))
            )
            self._known |= {
                key: _Known(_NO_STEP if step is None else step) for key, step in zip(new, steps, strict=True)
            }

    def _narrow(self, points: LoggedPoints, found: Duplicates) -> None:
        known = self._known[_key(points)]
        known.first, known.last = int(points.steps.min()), int(points.steps.max())
        known.latest_ms = max(known.latest_ms, found.latest_ms)

    async def _logged_before(self, points: Sequence[LoggedPoints]) -> list[Duplicates]:
        return (
            await read_when_available(self._reader, lambda connection: find_duplicates(connection, points))
            if points
            else []
        )


def _key(points: LoggedPoints) -> SeriesKey:
    return (points.run_id, points.key, points.attempt, points.rank)


def _without(points: Sequence[LoggedPoints], before: Mapping[int, Duplicates]) -> Iterator[LoggedPoints]:
    for n, one in enumerate(points):
        yield _filtered(one, ~before[n].mask) if n in before and before[n].mask.any() else one


def _once(points: Iterable[LoggedPoints]) -> Iterator[LoggedPoints]:
    """Remove what one event itself has twice."""
    points = list(points)
    frames = Counter((_key(one), one.offset) for one in points)
    seen: dict[tuple[SeriesKey, int], set[tuple[int, int, int]]] = {}
    for one in points:
        event = (_key(one), one.offset)
        if frames[event] > 1 or not bool((one.steps[1:] > one.steps[:-1]).all()):
            one = _unseen(one, seen.setdefault(event, set()))
        if len(one.steps):
            yield one


def _unseen(points: LoggedPoints, seen: set[tuple[int, int, int]]) -> LoggedPoints:
    is_new = []
    for row in rows_of((points.steps, points.times, points.values)):
        is_new.append(row not in seen)
        seen.add(row)
    return points if all(is_new) else _filtered(points, np.array(is_new, bool))


def _filtered(points: LoggedPoints, mask: NDArray[np.bool_]) -> LoggedPoints:
    return points._replace(steps=points.steps[mask], times=points.times[mask], values=points.values[mask])
