"""A run's branches for people: attempts, cuts, what is visible of each branch, and forks."""

from dataclasses import dataclass
from typing import Any

from runfold_projections.history.cutoff import existing_runs, run_end_offset
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.segments.compacted import read_located
from runfold_projections.segments.frame_groups import rows_before
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .visible_points import RunBranches, read_run_branches

Json = dict[str, Any]
MOST_FORKS = 1000
_LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class BranchOverview:
    """A run's branches as JSON-ready rows. `newest` is the branch number that a fork made now is pinned to."""

    newest: int
    attempts: list[Json]
    cuts: list[Json]
    branches: list[Json]
    forked_from: Json | None
    forks: list[Json]


async def read_branch_overview(
    connection: Connection, run_id: str, limit: int, offset: int, as_of: Vector | None = None
) -> BranchOverview | None:
    """Read the attempts, cuts, branches and forks of a run; None if it does not exist, or did not then.

    `limit` and `offset` page through what was logged: one row per attempt, branch and rank.

    Must run in a snapshot: it takes several statements.
    """
    line = (await read_run_branches(connection, [run_id], as_of)).get(run_id) if storable(run_id) else None
    if line is None or not line.exists:
        return None
    end = _LAST if as_of is None else run_end_offset(as_of, Topic.METRICS, run_id)
    attempts = [dict(row) for row in await connection.fetch(_ATTEMPTS, run_id, end)]
    names = {row["ordinal"]: row["attempt"] for row in attempts}
    cuts = [
        {**row, "attempt": names.get(row["attempt"]), "kind": "rewind" if row["kind"] else "start"}
        for row in map(dict, await connection.fetch(_CUTS, run_id, end))
    ]
    forks = [dict(row) for row in await connection.fetch(_FORKS, run_id, MOST_FORKS)]
    if as_of is not None:
        there = await existing_runs(connection, [fork["run_id"] for fork in forks], as_of)
        forks = [
            fork
            for fork in forks
            if fork["run_id"] in there and fork["log_offset"] < run_end_offset(as_of, Topic.METRICS, fork["run_id"])
        ]
    return BranchOverview(
        max([0, *(row["branch"] for row in [*attempts, *cuts])]),
        attempts,
        cuts,
        await _logged(connection, run_id, line, limit, offset, end),
        None if line.fork is None else {"run_id": line.fork.parent, "branch": line.fork.branch, "step": line.fork.step},
        [{name: fork[name] for name in ("run_id", "branch", "step")} for fork in forks],
    )


async def _logged(
    connection: Connection, run_id: str, line: RunBranches, limit: int, offset: int, end: int
) -> list[Json]:
    view = line.view(None)
    rows = [dict(row) for row in await connection.fetch(_LOGGED, run_id, limit, offset, end)]
    if end != _LAST:
        await _leave_out(connection, run_id, rows, end)
    return [
        {
            **row,
            "rank": None if row["rank"] < 0 else row["rank"],
            "cut_off_after": view.limit(row["branch"], row["rank"]),
        }
        for row in rows
    ]


async def _leave_out(connection: Connection, run_id: str, rows: list[Json], end: int) -> None:
    """Take from these counts what came at the offset or later, by the segments that lie across it."""
    across = await connection.fetch(
        """
        SELECT attempt, branch, rank, head, data FROM segment
        WHERE run_id = $1 AND first_offset < $2 AND last_offset >= $2
        """,
        *(run_id, end),
    )
    touched = {(row["attempt"], row["branch"], row["rank"]) for row in across}
    for row in rows:
        source = (row["attempt"], row["branch"], row["rank"])
        if source in touched:
            whole = await connection.fetchrow(_WHOLE, run_id, end, *source)
            first, last, points = [whole["first_step"]], [whole["last_step"]], whole["points"]
            for segment in across:
                if (segment["attempt"], segment["branch"], segment["rank"]) == source:
                    for dated in read_located(segment["head"], segment["data"]):
                        frame = rows_before(*dated, end)
                        if frame.rows:
                            first.append(min(frame.steps))
                            last.append(max(frame.steps))
                            points += len(frame.values)
            row["first_step"] = min(step for step in first if step is not None)
            row["last_step"] = max(step for step in last if step is not None)
            row["points"] = points


_WHOLE = """
SELECT min(first_step) AS first_step, max(last_step) AS last_step, coalesce(sum(points), 0)::bigint AS points
FROM segment WHERE run_id = $1 AND last_offset < $2 AND attempt = $3 AND branch = $4 AND rank = $5
"""
_ATTEMPTS = """
SELECT a.attempt, a.ordinal, a.branch, a.first_offset, s.world_size, s.start_step, s.started_ms
FROM attempt a LEFT JOIN attempt_start s ON s.run_id = a.run_id AND s.attempt = a.attempt AND s.log_offset < $2
WHERE a.run_id = $1 AND a.first_offset < $2 ORDER BY a.ordinal
"""
_CUTS = """
SELECT number AS branch, attempt, opens AS kind, rank, step, event_id::text FROM cut
WHERE run_id = $1 AND log_offset < $2 ORDER BY number
"""
_LOGGED = """
SELECT attempt, branch, rank, min(first_step) AS first_step, max(last_step) AS last_step, sum(points)::bigint AS points
FROM segment WHERE run_id = $1 AND first_offset < $4
GROUP BY attempt, branch, rank ORDER BY branch, attempt, rank LIMIT $2 OFFSET $3
"""
_FORKS = """
SELECT run_id, parent_branch AS branch, step, log_offset FROM fork f
WHERE parent_run_id = $1 AND EXISTS (SELECT FROM run r WHERE r.run_id = f.run_id)
ORDER BY run_id LIMIT $2
"""
