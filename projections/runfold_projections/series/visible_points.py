"""The visible points of a run: its own effective ones, and those inherited from the runs that it was forked from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runfold_projections.history.cutoff import existing_runs, run_end_offset
from runfold_projections.metrics.branches import Attempt, Cut, EffectiveView, Fork
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

BranchChoice = int | Literal["effective", "all"]
"""The effective points, all points, or those that were effective when the branch of this number was the newest."""


@dataclass(frozen=True, slots=True)
class VisiblePart:
    """Points of `owner` that a run shows.

    `view` None: all of them. `step`: the last inherited one, after all forks in between. `descendants`: the views of
    the runs in between.
    """

    owner: str
    view: EffectiveView | None
    step: int | None = None
    descendants: tuple[EffectiveView, ...] = ()

    def shows(self, branch: int) -> bool:
        """Report whether points of a branch may be visible."""
        return self.view is None or self.view.shows(branch)

    def limit(self, branch: int, rank: int) -> int | None:
        """Return the last visible step of a branch and rank; None: all are visible."""
        found = [self.step, *(view.inherited(rank) for view in self.descendants)]
        if self.view is not None:
            found.append(self.view.limit(branch, rank))
        return min((step for step in found if step is not None), default=None)


@dataclass(slots=True)
class RunBranches:
    """A run's attempts, cuts and fork, as stored."""

    exists: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    fork: Fork | None = None

    def view(self, as_of: int | None) -> EffectiveView:
        """Return what is effective now, or was when `as_of` was the newest branch number."""
        return EffectiveView(self.attempts, self.cuts, as_of)


@dataclass(frozen=True, slots=True)
class VisibleRuns:
    """The visible parts of runs, and the ancestors that some of them are inherited from."""

    parts: Mapping[str, Sequence[VisiblePart]]
    ancestors: frozenset[str]
    as_of: Vector | None = None
    """The moment of the past; None: now."""

    @property
    def owners(self) -> list[str]:
        """All runs that own visible points."""
        return sorted({part.owner for parts in self.parts.values() for part in parts})

    def end_offset(self, run_id: str) -> int | None:
        """Return the end offset of the points of a run that count; None: all of them do."""
        return None if self.as_of is None else run_end_offset(self.as_of, Topic.METRICS, run_id)


async def read_visible_runs(
    connection: Connection, run_ids: Iterable[str], branches: BranchChoice = "effective", as_of: Vector | None = None
) -> VisibleRuns:
    """Read the visible parts of runs, now or at a moment of the past.

    A run that does not exist has none, and ends its chain of ancestors.
    """
    wanted = list(dict.fromkeys(filter(storable, run_ids)))
    lines = await read_run_branches(connection, wanted, as_of)
    parts = {run_id: visible_parts(run_id, lines, branches) for run_id in wanted}
    return VisibleRuns(parts, frozenset(lines.keys() - set(wanted)), as_of)


def visible_parts(
    run_id: str, branches_by_run: Mapping[str, RunBranches], branches: BranchChoice = "effective"
) -> list[VisiblePart]:
    """Return a run's own part, then those that it inherits. `branches_by_run` is the result of `read_run_branches`."""
    found: list[VisiblePart] = []
    as_of = branches if isinstance(branches, int) else None
    step: int | None = None
    descendants: tuple[EffectiveView, ...] = ()
    seen: set[str] = set()
    owner: str | None = run_id
    while owner is not None and owner not in seen and (line := branches_by_run.get(owner)) is not None and line.exists:
        seen.add(owner)
        view = None if branches == "all" and not found else line.view(as_of)
        found.append(VisiblePart(owner, view, step, descendants))
        descendants = descendants if view is None else (*descendants, view)
        fork = line.fork
        owner = fork.parent if fork else None
        if fork is not None:
            step = fork.step if step is None else min(step, fork.step)
            as_of = fork.branch
    return found


async def read_run_branches(
    connection: Connection, run_ids: Sequence[str], as_of: Vector | None = None
) -> dict[str, RunBranches]:
    """Read the branches of these runs and of all their ancestors."""
    lines = {run_id: RunBranches() for run_id in run_ids}
    rows = await connection.fetch(_LINES, run_ids)
    there: set[str] | None = None
    if as_of is not None:
        rows = [
            row
            for row in rows
            if row["log_offset"] is None or row["log_offset"] < run_end_offset(as_of, Topic.METRICS, row["run_id"])
        ]
        there = await existing_runs(connection, [row["run_id"] for row in rows if row["kind"] == "run"], as_of)
    for kind, run_id, number, step, attempt, rank, opens, parent, _ in rows:
        line = lines.setdefault(run_id, RunBranches())
        match kind:
            case "run":
                line.exists = there is None or run_id in there
            case "attempt":
                line.attempts.append(Attempt(attempt, number))
            case "cut":
                line.cuts.append(Cut(number, attempt, rank, step, opens))
            case _:
                line.fork = Fork(parent, number, step)
                lines.setdefault(parent, RunBranches())
    return lines


# UNION instead of UNION ALL: a cycle of forks ends the recursion.
_LINES = """
WITH RECURSIVE inherits AS (
    SELECT f.run_id, f.parent_run_id, f.parent_branch, f.step, f.log_offset
    FROM fork f WHERE f.run_id = ANY ($1::text[])
    UNION
    SELECT f.run_id, f.parent_run_id, f.parent_branch, f.step, f.log_offset
    FROM fork f JOIN inherits i ON f.run_id = i.parent_run_id
), line AS (
    SELECT unnest($1::text[]) AS run_id UNION SELECT parent_run_id FROM inherits
)
SELECT 'run' AS kind, r.run_id, 0 AS number, 0::bigint AS step, 0 AS attempt, NULL::integer AS rank, false AS opens,
       NULL::text AS parent, NULL::bigint AS log_offset
FROM line JOIN run r USING (run_id)
UNION ALL
SELECT 'cut', c.run_id, c.number, c.step, c.attempt, c.rank, c.opens, NULL, c.log_offset
FROM line JOIN cut c USING (run_id)
UNION ALL
SELECT 'attempt', a.run_id, a.branch, 0, a.ordinal, NULL, false, NULL, a.first_offset
FROM line JOIN attempt a USING (run_id)
WHERE a.branch > 0 AND EXISTS (SELECT FROM cut c WHERE c.run_id = a.run_id)
UNION ALL
SELECT 'fork', run_id, parent_branch, step, 0, NULL, false, parent_run_id, log_offset FROM inherits
"""
