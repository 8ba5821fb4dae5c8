"""Which points a run shows: its own effective ones, and those that it inherits from the runs it was forked from."""

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
"""What to show: the effective points, all, or what was effective when the branch of this number was the newest."""


@dataclass(frozen=True, slots=True)
class VisiblePart:
    """Points of `owner` that a run shows. `view` None: all of them; `step`: the last one that was inherited, by all forks in between."""

    owner: str
    view: EffectiveView | None
    step: int | None = None
    heirs: tuple[EffectiveView, ...] = ()

    def shows(self, branch: int) -> bool:
        """Whether anything of a branch may be shown."""
        return self.view is None or self.view.shows(branch)

    def limit(self, branch: int, rank: int) -> int | None:
        """The last step that is shown of a branch and rank; None: all are."""
        found = [self.step, *(heir.inherited(rank) for heir in self.heirs)]
        if self.view is not None:
            found.append(self.view.limit(branch, rank))
        return min((step for step in found if step is not None), default=None)


@dataclass(slots=True)
class RunBranches:
    """What the tables hold of one run's attempts, cuts and fork."""

    exists: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    fork: Fork | None = None

    def view(self, as_of: int | None) -> EffectiveView:
        """What is effective now, or was when `as_of` was the newest number."""
        return EffectiveView(self.attempts, self.cuts, as_of)


@dataclass(frozen=True, slots=True)
class VisibleRuns:
    """The parts of each run asked for, and the runs beyond them that these come from."""

    parts: Mapping[str, Sequence[VisiblePart]]
    ancestors: frozenset[str]
    as_of: Vector | None = None
    """The moment at which this was so; None: now."""

    @property
    def owners(self) -> list[str]:
        """All runs whose points are shown."""
        return sorted({part.owner for parts in self.parts.values() for part in parts})

    def end_offset(self, run_id: str) -> int | None:
        """Return the end offset of the points of a run that count; None: all of them do."""
        return None if self.as_of is None else run_end_offset(self.as_of, Topic.METRICS, run_id)


async def read_visible_runs(
    connection: Connection, run_ids: Iterable[str], branches: BranchChoice = "effective", as_of: Vector | None = None
) -> VisibleRuns:
    """The parts of these runs, now or at a moment of the past. A run that does not exist has none, and ends the chain of those that it was
    forked from.
    """
    wanted = list(dict.fromkeys(filter(storable, run_ids)))
    lines = await read_run_branches(connection, wanted, as_of)
    parts = {run_id: visible_parts(run_id, lines, branches) for run_id in wanted}
    return VisibleRuns(parts, frozenset(lines.keys() - set(wanted)), as_of)


def visible_parts(
    run_id: str, lines: Mapping[str, RunBranches], branches: BranchChoice = "effective"
) -> list[VisiblePart]:
    """What a run shows: its own part first, then those that it inherits. `lines` are those of `lines_of`."""
    found: list[VisiblePart] = []
    as_of = branches if isinstance(branches, int) else None
    step: int | None = None
    heirs: tuple[EffectiveView, ...] = ()
    seen: set[str] = set()
    owner: str | None = run_id
    while owner is not None and owner not in seen and (line := lines.get(owner)) is not None and line.exists:
        seen.add(owner)
        view = None if branches == "all" and not found else line.view(as_of)
        found.append(VisiblePart(owner, view, step, heirs))
        heirs = heirs if view is None else (*heirs, view)
        fork = line.fork
        owner = fork.parent if fork else None
        if fork is not None:
            step = fork.step if step is None else min(step, fork.step)
            as_of = fork.branch
    return found


async def read_run_branches(
    connection: Connection, run_ids: Sequence[str], as_of: Vector | None = None
) -> dict[str, RunBranches]:
    """These runs and those that they were forked from."""
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


# UNION, not UNION ALL: runs that were forked from each other end it.
_LINES = """
WITH RECURSIVE inherits AS (
    SELECT f.run_id, f.parent_run_id, f.parent_branch, f.step, f.log_offset FROM fork f WHERE f.run_id = ANY ($1::text[])
    UNION
    SELECT f.run_id, f.parent_run_id, f.parent_branch, f.step, f.log_offset FROM fork f JOIN inherits i ON f.run_id = i.parent_run_id
), line AS (
    SELECT unnest($1::text[]) AS run_id UNION SELECT parent_run_id FROM inherits
)
SELECT 'run' AS kind, r.run_id, 0 AS number, 0::bigint AS step, 0 AS attempt, NULL::integer AS rank, false AS opens, NULL::text AS parent,
       NULL::bigint AS log_offset
FROM line JOIN run r USING (run_id)
UNION ALL
SELECT 'cut', c.run_id, c.number, c.step, c.attempt, c.rank, c.opens, NULL, c.log_offset FROM line JOIN cut c USING (run_id)
UNION ALL
SELECT 'attempt', a.run_id, a.branch, 0, a.ordinal, NULL, false, NULL, a.first_offset FROM line JOIN attempt a USING (run_id)
WHERE a.branch > 0 AND EXISTS (SELECT FROM cut c WHERE c.run_id = a.run_id)
UNION ALL
SELECT 'fork', run_id, parent_branch, step, 0, NULL, false, parent_run_id, log_offset FROM inherits
"""
