"""How a run's points hang together, for people: attempts, cuts, what is shown of each branch, and forks."""

from dataclasses import dataclass
from typing import Any

from ..database import Connection
from ..search.tokens import storable
from .lines import Line, lines_of

Json = dict[str, Any]
MOST_FORKS = 1000


@dataclass(frozen=True, slots=True)
class Branches:
    """Of one run, as JSON-ready rows. `newest` is the number that a fork of now is pinned to."""

    newest: int
    attempts: list[Json]
    cuts: list[Json]
    branches: list[Json]
    forked_from: Json | None
    forks: list[Json]


async def branches_of(conn: Connection, run_id: str, limit: int, offset: int) -> Branches | None:
    """None for a run that does not exist. `limit` and `offset` are of what was logged, one row per attempt, branch and rank.

    Must run in a snapshot: it takes several statements.
    """
    line = (await lines_of(conn, [run_id])).get(run_id) if storable(run_id) else None
    if line is None or not line.exists:
        return None
    attempts = [dict(row) for row in await conn.fetch(_ATTEMPTS, run_id)]
    names = {row["ordinal"]: row["attempt"] for row in attempts}
    cuts = [
        {**row, "attempt": names.get(row["attempt"]), "kind": "rewind" if row["kind"] else "start"}
        for row in map(dict, await conn.fetch(_CUTS, run_id))
    ]
    forks = [dict(row) for row in await conn.fetch(_FORKS, run_id, MOST_FORKS)]
    return Branches(
        max([0, *(row["branch"] for row in [*attempts, *cuts])]),
        attempts,
        cuts,
        await _logged(conn, run_id, line, limit, offset),
        None if line.fork is None else {"run_id": line.fork.parent, "branch": line.fork.branch, "step": line.fork.step},
        forks,
    )


async def _logged(conn: Connection, run_id: str, line: Line, limit: int, offset: int) -> list[Json]:
    view = line.view(None)
    return [
        {
            **row,
            "rank": None if row["rank"] < 0 else row["rank"],
            "cut_off_after": view.limit(row["branch"], row["rank"]),
        }
        for row in map(dict, await conn.fetch(_LOGGED, run_id, limit, offset))
    ]


_ATTEMPTS = """
SELECT a.attempt, a.ordinal, a.branch, a.first_offset, s.world_size, s.start_step, s.started_ms
FROM attempt a LEFT JOIN attempt_start s USING (run_id, attempt) WHERE a.run_id = $1 ORDER BY a.ordinal
"""
_CUTS = """
SELECT number AS branch, attempt, opens AS kind, rank, step, event_id::text FROM cut WHERE run_id = $1 ORDER BY number
"""
_LOGGED = """
SELECT attempt, branch, rank, min(first_step) AS first_step, max(last_step) AS last_step, sum(points)::bigint AS points
FROM segment WHERE run_id = $1 GROUP BY attempt, branch, rank ORDER BY branch, attempt, rank LIMIT $2 OFFSET $3
"""
_FORKS = """
SELECT run_id, parent_branch AS branch, step FROM fork f WHERE parent_run_id = $1 AND EXISTS (SELECT FROM run r WHERE r.run_id = f.run_id)
ORDER BY run_id LIMIT $2
"""
