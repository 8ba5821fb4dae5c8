"""Branches of runs as of an offset of the log, for readers of the log that show only effective points."""

from collections.abc import Sequence

from runfold_projections.metrics.branches import Attempt, Cut, RunBranches
from runfold_projections.postgres.connection import Connection


async def branches_at(connection: Connection, run_ids: Sequence[str], start: int, stop: int) -> dict[str, RunBranches]:
    """Return the branches, as of the offset `start`, of those runs that have a cut before the offset `stop`.

    The runs are of one partition of `metrics`. Complete only in a read transaction whose checkpoint has passed `stop`.
    """
    found: dict[str, RunBranches] = {
        row["run_id"]: RunBranches() for row in await connection.fetch(_CUT, run_ids, stop)
    }
    if not found:
        return found
    attempts: dict[str, list[tuple[str, Attempt]]] = {}
    cuts: dict[str, list[Cut]] = {}
    for run_id, name, *attempt in await connection.fetch(_ATTEMPTS, list(found), start):
        attempts.setdefault(run_id, []).append((name, Attempt(*attempt)))
    for run_id, *cut in await connection.fetch(_CUTS, list(found), start):
        cuts.setdefault(run_id, []).append(Cut(*cut))
    for run_id, branches in found.items():
        branches.restore(attempts.get(run_id, ()), cuts.get(run_id, ()))
    return found


_CUT = "SELECT DISTINCT run_id FROM cut WHERE run_id = ANY ($1::text[]) AND log_offset < $2"
_ATTEMPTS = """
SELECT run_id, attempt, ordinal, branch FROM attempt
WHERE run_id = ANY ($1::text[]) AND first_offset < $2 ORDER BY run_id, ordinal
"""
_CUTS = """
SELECT run_id, number, attempt, rank, step, opens, writer, sequence FROM cut
WHERE run_id = ANY ($1::text[]) AND log_offset < $2 ORDER BY run_id, number
"""
