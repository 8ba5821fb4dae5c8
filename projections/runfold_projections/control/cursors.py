"""Cursors of reactions, in the control schema: how far each reaction has acted is recorded only in Postgres."""

from runfold_projections.core.errors import Fenced
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition


async def load(connection: Connection, reaction: str, where: Partition) -> Checkpoint | None:
    """Read how far the reaction has acted on the partition; None if it never has."""
    row = await connection.fetchrow(
        """
        SELECT log_id, genesis_id, next_offset FROM reaction_cursor
        WHERE reaction = $1 AND topic = $2 AND partition = $3
        """,
        reaction,
        where.topic.value,
        where.partition,
    )
    return None if row is None else Checkpoint(row["log_id"], str(row["genesis_id"]), row["next_offset"], 0)


async def advance(
    connection: Connection, reaction: str, where: Partition, before: Checkpoint | None, after: Checkpoint
) -> None:
    """Move the cursor; Fenced if another worker moved it meanwhile."""
    status = await connection.execute(
        """
        INSERT INTO reaction_cursor AS c (reaction, topic, partition, log_id, genesis_id, next_offset)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (reaction, topic, partition) DO UPDATE SET next_offset = excluded.next_offset
        WHERE c.next_offset = $7 AND c.genesis_id = excluded.genesis_id
        """,
        reaction,
        where.topic.value,
        where.partition,
        after.log_id,
        after.genesis_id,
        after.next_offset,
        before.next_offset if before else -1,
    )
    if not status.endswith(" 1"):
        raise Fenced(f"reaction {reaction} on {where}: the cursor moved")
