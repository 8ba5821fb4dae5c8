"""Branches of a run: attempts, the branches that they open, and which points cuts make ineffective.

A *branch* is opened by an attempt's first appearance in the log and by every rewind; branches are numbered per run,
from 1, in the order of the log. A declared start takes a number too, although it opens no branch, so that a number
names a moment of the run. Which points are effective is a pure function of the cuts and of each point's branch, rank
and step: late points need no rule of their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

NO_RANK = -1
"""Rank of points whose writer names none."""
NO_ATTEMPT = -1
"""Ordinal of what was written before any attempt had a name."""


class Attempt(NamedTuple):
    """An attempt: its ordinal in the run, and the branch that its first appearance opened.

    The branch is 0 for writers that name no attempt.
    """

    ordinal: int
    branch: int


class Cut(NamedTuple):
    """A rewind or a declared start: it cuts off points of greater steps.

    `attempt` is the ordinal of the attempt that wrote it. `rank` None means all ranks. `opens` distinguishes a rewind,
    which opens a branch, from a start. For a rewind, `writer` and `sequence` identify what the same writer logged
    before it, in case that arrives later.
    """

    number: int
    attempt: int
    rank: int | None
    step: int
    opens: bool
    writer: str = ""
    sequence: int = 0


class Fork(NamedTuple):
    """What a run inherits: the parent's points that were effective on one of its branches, up to a step."""

    parent: str
    branch: int
    step: int


@dataclass(slots=True)
class RunBranches:
    """The attempts, cuts and fork of one run, as folded so far."""

    attempts: dict[str, Attempt] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    last: int = 0
    """The newest number."""
    declared: set[str] = field(default_factory=set)
    """Attempts with an AttemptStarted event."""
    is_fork: bool = False
    _newest: Attempt = field(default_factory=lambda: Attempt(NO_ATTEMPT, 0))
    _rewinds: dict[tuple[int, int | None], list[Cut]] = field(default_factory=dict)
    _view: "EffectiveView | None" = None

    def restore(self, attempts: Iterable[tuple[str, Attempt]], cuts: Iterable[Cut]) -> None:
        """Add stored attempts and cuts, in their order."""
        for name, attempt in attempts:
            self.attempts[name] = attempt
            self.last = max(self.last, attempt.branch)
            if name and attempt.ordinal > self._newest.ordinal:
                self._newest = attempt
        for cut in cuts:
            self._add(cut)

    def appear(self, name: str) -> Attempt | None:
        """Add an attempt and return it; None if it appeared before.

        '' is the attempt of writers that name none: it opens no branch.
        """
        if name in self.attempts:
            return None
        self._view = None
        attempt = Attempt(len(self.attempts), 0)
        if name:
            self.last += 1
            self._newest = attempt = attempt._replace(branch=self.last)
        self.attempts[name] = attempt
        return attempt

    def start(self, name: str, rank: int | None, step: int) -> Cut | None:
        """Add a declared start and return it; None if an earlier one cuts off at least as much."""
        ordinal = self._acting(name).ordinal
        for cut in self.cuts:
            if not cut.opens and cut.attempt == ordinal and cut.rank in (None, rank) and cut.step <= step:
                return None
        return self._add(Cut(self.last + 1, ordinal, rank, step, opens=False))

    def rewind(self, name: str, rank: int | None, step: int, writer: str, sequence: int) -> Cut:
        """Add a rewind, which opens a branch."""
        return self._add(Cut(self.last + 1, self._acting(name).ordinal, rank, step, True, writer, sequence))

    def branch(self, name: str, rank: int, writer: str, sequence: int) -> int:
        """Return the branch of the points in an event. A writer that names no attempt writes for the newest one."""
        attempt = self._acting(name)
        if not self._rewinds:
            return attempt.branch
        found = [cut for scope in (rank, None) for cut in self._rewinds.get((attempt.ordinal, scope), ())]
        # An event that its writer logged before a rewind may arrive after it: it belongs to the branch before.
        later = min((cut.number for cut in found if cut.writer == writer and cut.sequence > sequence), default=None)
        return max((cut.number for cut in found if later is None or cut.number < later), default=attempt.branch)

    def view(self) -> "EffectiveView":
        """Return which points are effective now."""
        if self._view is None:
            self._view = EffectiveView(self.attempts.values(), self.cuts)
        return self._view

    def _acting(self, name: str) -> Attempt:
        return self.attempts[name] if name else self._newest

    def _add(self, cut: Cut) -> Cut:
        self._view = None
        self.cuts.append(cut)
        self.last = max(self.last, cut.number)
        if cut.opens:
            self._rewinds.setdefault((cut.attempt, cut.rank), []).append(cut)
        return cut


class EffectiveView:
    """Which points of a run are effective: per branch and rank, up to which step.

    A cut takes points of earlier attempts; a rewind also those of its own attempt's earlier branches. No cut takes
    points of later attempts, even if it arrives late. `as_of` a number: the view at that moment of the run.
    """

    def __init__(self, attempts: Iterable[Attempt], cuts: Iterable[Cut], as_of: int | None = None) -> None:
        self._as_of = as_of
        self._ordinals = {attempt.branch: attempt.ordinal for attempt in attempts if attempt.branch}
        self._cuts: dict[int | None, list[Cut]] = {}
        for cut in cuts:
            if as_of is None or cut.number <= as_of:
                self._cuts.setdefault(cut.rank, []).append(cut)
                if cut.opens:
                    self._ordinals[cut.number] = cut.attempt
        self._limits: dict[tuple[int, int], int | None] = {}

    def shows(self, branch: int) -> bool:
        """Return whether the branch existed."""
        return self._as_of is None or branch <= self._as_of

    def limit(self, branch: int, rank: int) -> int | None:
        """Return the last effective step of the points that this rank logged on the branch; None: all are effective."""
        if (branch, rank) not in self._limits:
            at = self._ordinals.get(branch, NO_ATTEMPT)
            self._limits[branch, rank] = min(
                (
                    cut.step
                    for cut in self._for(rank)
                    if cut.attempt > at or (cut.opens and cut.attempt == at and cut.number > branch)
                ),
                default=None,
            )
        return self._limits[branch, rank]

    def inherited(self, rank: int) -> int | None:
        """Return the last effective step of the points that a fork inherits for this rank; None: all are effective."""
        return min((cut.step for cut in self._for(rank)), default=None)

    def _for(self, rank: int) -> Iterable[Cut]:
        return chain(self._cuts.get(None, ()), self._cuts.get(rank, ()))
