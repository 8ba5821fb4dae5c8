"""An operator's overview: checkpoints, workers, rejections and dead letters."""

from typing import Any

from runfold_projections.artifacts.damage import checks_overview
from runfold_projections.control.leases import DEAD
from runfold_projections.postgres.connection import Connection
from runfold_projections.postgres.read_transaction import checkpoints


async def overview(connection: Connection) -> dict[str, Any]:
    """Read generations, live workers with their partitions, checkpoints, counts of events without effect, damaged
    files.
    """
    generations = await connection.fetch(
        """
        SELECT projection, number, schema_name, state FROM generation
        WHERE state <> 'retired' ORDER BY projection, number
        """
    )
    workers = await connection.fetch(
        f"""
        SELECT w.worker_id, w.host, w.pid, w.release, w.kinds, w.blocked,
               extract(epoch FROM now() - w.seen_at)::float8 AS seen_s,
               (SELECT count(*) FROM lease l WHERE l.worker_id = w.worker_id) AS partitions
        FROM worker w WHERE NOT ({DEAD}) ORDER BY w.worker_id
        """  # noqa: S608
    )
    counts = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM rejection) AS rejected, (SELECT count(*) FROM set_aside) AS set_aside"
    )
    return {
        "generations": [dict(row) for row in generations],
        "workers": [{**dict(row), "seen_s": round(row["seen_s"], 1)} for row in workers],
        "rejected": counts["rejected"],
        "set_aside": counts["set_aside"],
        "artifacts": await checks_overview(connection),
        "checkpoints": await checkpoints(connection),
    }
