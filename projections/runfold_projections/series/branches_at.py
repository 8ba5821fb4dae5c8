"""Lineages of runs as they stood at a place of the log: for readers of the log that need to know what is effective there."""

from collections.abc import Sequence

from runfold_projections.metrics.branches import Attempt, Cut, Lineage
from runfold_projections.postgres.connection import Connection


async def lineages_at(connection: Connection, run_ids: Sequence[str], start: int, stop: int) -> dict[str, Lineage]:
    """Lineages of those of these runs that have a cut before the offset `stop`, each as the events before `start` told it.

    The runs are of one partition of `metrics`. Complete only in a snapshot whose checkpoint has passed `stop`.
    """
    found: dict[str, Lineage] = {row["run_id"]: Lineage() for row in await connection.fetch(_CUT, run_ids, stop)}
    if not found:
        return found
    attempts: dict[str, list[tuple[str, Attempt]]] = {}
    cuts: dict[str, list[Cut]] = {}
    for run_id, name, *attempt in await connection.fetch(_ATTEMPTS, list(found), start):
        attempts.setdefault(run_id, []).append((name, Attempt(*attempt)))
    for run_id, *cut in await connection.fetch(_CUTS, list(found), start):
        cuts.setdefault(run_id, []).append(Cut(*cut))
    for run_id, lineage in found.items():
        lineage.restore(attempts.get(run_id, ()), cuts.get(run_id, ()))
    return found


_CUT = "SELECT DISTINCT run_id FROM cut WHERE run_id = ANY ($1::text[]) AND log_offset < $2"
_ATTEMPTS = """
SELECT run_id, attempt, ordinal, branch FROM attempt WHERE run_id = ANY ($1::text[]) AND first_offset < $2 ORDER BY run_id, ordinal
"""
_CUTS = """
SELECT run_id, number, attempt, rank, step, opens, writer, sequence FROM cut
WHERE run_id = ANY ($1::text[]) AND log_offset < $2 ORDER BY run_id, number
"""
