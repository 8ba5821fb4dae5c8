"""What a run logged to `metrics`: extents of its segments."""

from typing import Any

from runfold_projections.postgres.connection import Connection


async def logged_extents(connection: Connection, run_id: str, end_offset: int) -> list[dict[str, Any]]:
    """Return offsets, steps and points per attempt, branch and rank (null: no rank), of what was logged below an end
    offset.

    Steps and points include those that one segment holds together with later ones.
    """
    rows = await connection.fetch(
        """
        SELECT attempt, branch, rank, min(first_offset) AS first_offset,
               least(max(last_offset), $2 - 1) AS last_offset, min(first_step) AS first_step,
               max(last_step) AS last_step, sum(points)::bigint AS points
        FROM segment WHERE run_id = $1 AND first_offset < $2
        GROUP BY attempt, branch, rank ORDER BY branch, attempt, rank LIMIT 1000
        """,
        run_id,
        end_offset,
    )
    return [{**row, "rank": None if row["rank"] < 0 else row["rank"]} for row in map(dict, rows)]
