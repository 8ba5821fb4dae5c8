"""Which records of the log of metrics added nothing: what a reader of the log passes over, too."""

from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic


async def skipped_offsets(connection: Connection, partition: int, start: int, stop: int) -> frozenset[int]:
    """Offsets from `start` to before `stop` of records that were received before, or set aside.

    Complete only in a snapshot whose checkpoint has passed `stop`.
    """
    rows = await connection.fetch(
        """
        SELECT log_offset FROM metric_repeat WHERE partition = $1 AND log_offset >= $2 AND log_offset < $3
        UNION ALL
        SELECT log_offset FROM set_aside
        WHERE topic = 'metrics' AND partition = $1 AND log_offset >= $2 AND log_offset < $3
        """,
        partition,
        start,
        stop,
    )
    return frozenset(row["log_offset"] for row in rows)


async def repeated_offsets(connection: Connection, where: Partition, start: int, stop: int) -> frozenset[int]:
    """Offsets from `start` to before `stop` of records that were received before. Only the fold of metrics notes them.

    Complete only in a snapshot whose checkpoint has passed `stop`.
    """
    if where.topic is not Topic.METRICS:
        return frozenset()
    rows = await connection.fetch(
        "SELECT log_offset FROM metric_repeat WHERE partition = $1 AND log_offset >= $2 AND log_offset < $3",
        where.partition,
        start,
        stop,
    )
    return frozenset(row["log_offset"] for row in rows)
