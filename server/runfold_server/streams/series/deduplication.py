"""What a stream tells of the points that come: each once. One that an event logs anew, such as a client that asked again after a lost
answer, was told before, or stood in the history that the stream goes on from."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import structlog

from runfold_projections.series.duplicates import Before, Logged, last_steps, logged_before, rows_of
from runfold_server.core.errors import Unavailable
from runfold_server.reads.reader import Query, Reader

MOST_KNOWN = 50_000
"""Series by attempt and rank that a stream knows a bound of; beyond that it looks them up anew."""
_NO_STEP = -(2**63)
_log = structlog.get_logger(__name__)
Name = tuple[str, str, str, int]
T = TypeVar("T")


@dataclass(slots=True)
class _Known:
    """Bounds of what was logged to a series: no greater step than `last_step`; with steps from `first` to `last`, no later time."""

    last_step: int
    first: int = 0
    last: int = -1
    latest_ms: int = 0

    def may_have(self, points: Logged) -> bool:
        """Whether any of the points may have been logged before."""
        lowest, highest = int(points.steps.min()), int(points.steps.max())
        if lowest > self.last_step:
            return False
        return not (self.first <= lowest and highest <= self.last and int(points.times.min()) > self.latest_ms)

    def note(self, points: Logged) -> None:
        """They are logged now."""
        self.last_step = max(self.last_step, int(points.steps.max()))
        self.latest_ms = max(self.latest_ms, int(points.times.max()))


class Fresh:
    """Takes away what was logged before. Remembers what it was shown, so that points that come in order cost no look-up."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[Name, _Known] = {}

    async def of(self, points: Sequence[Logged]) -> list[Logged]:
        """Those of these points, in the order of the log, that no earlier event had logged. Waits for as long as Postgres is away."""
        await self._meet(points)
        doubtful: list[int] = []
        for n, one in enumerate(points):
            known = self._known[_name(one)]
            if known.may_have(one):
                doubtful.append(n)
            known.note(one)
        before = dict(zip(doubtful, await self._look([points[n] for n in doubtful]), strict=True))
        for n, found in before.items():
            self._learn(points[n], found)
        return list(_once(_without(points, before)))

    async def _meet(self, points: Sequence[Logged]) -> None:
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        new = {_name(one): one for one in reversed(points) if _name(one) not in self._known}
        if new:
            steps = await self._ask(lambda connection: last_steps(connection, list(new.values())))
            self._known |= {
                name: _Known(_NO_STEP if step is None else step) for name, step in zip(new, steps, strict=True)
            }

    def _learn(self, points: Logged, found: Before) -> None:
        known = self._known[_name(points)]
        known.first, known.last = int(points.steps.min()), int(points.steps.max())
        known.latest_ms = max(known.latest_ms, found.latest_ms)

    async def _look(self, points: Sequence[Logged]) -> list[Before]:
        return await self._ask(lambda connection: logged_before(connection, points)) if points else []

    async def _ask(self, query: Query[T]) -> T:
        while True:
            try:
                # Whoever has read the points from the log has waited until the fold had passed them.
                return (await self._reader.eventual(query)).value
            except Unavailable as error:
                _log.warning("live_waits_for_postgres", error=error.message)
                await asyncio.sleep(min(1.0, error.retry_after))


def _name(points: Logged) -> Name:
    return (points.run_id, points.key, points.attempt, points.rank)


def _without(points: Sequence[Logged], before: Mapping[int, Before]) -> Iterator[Logged]:
    for n, one in enumerate(points):
        yield _kept(one, ~before[n].mask) if n in before and before[n].mask.any() else one


def _once(points: Iterable[Logged]) -> Iterator[Logged]:
    """An event may say the same twice, too."""
    points = list(points)
    frames = Counter((_name(one), one.offset) for one in points)
    said: dict[tuple[Name, int], set[tuple[int, int, int]]] = {}
    for one in points:
        event = (_name(one), one.offset)
        if frames[event] > 1 or not bool((one.steps[1:] > one.steps[:-1]).all()):
            one = _unsaid(one, said.setdefault(event, set()))
        if len(one.steps):
            yield one


def _unsaid(points: Logged, said: set[tuple[int, int, int]]) -> Logged:
    fresh = []
    for row in rows_of((points.steps, points.times, points.values)):
        fresh.append(row not in said)
        said.add(row)
    return points if all(fresh) else _kept(points, np.array(fresh, bool))


def _kept(points: Logged, mask: Any) -> Logged:
    return points._replace(steps=points.steps[mask], times=points.times[mask], values=points.values[mask])
