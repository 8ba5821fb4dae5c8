"""Checkpoints: how far a partition is folded. They move by compare-and-set in the statement that writes the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from runfold_projections.core.errors import Fenced
from runfold_projections.postgres.batch_statement import RowChange, combined
from runfold_projections.postgres.connection import Connection
from runfold_projections.postgres.notifications import progress_channel
from runfold_schemas.positions.position import Partition


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The next offset to fold, and the log that it belongs to.

    `broker_ms`: the broker's time of the last folded record.
    """

    log_id: str
    genesis_id: str
    next_offset: int
    broker_ms: int


async def load(connection: Connection, where: Partition) -> Checkpoint | None:
    """Return the partition's checkpoint in the generation that the search_path names; None before the first commit."""
    row = await connection.fetchrow(
        "SELECT log_id, genesis_id, next_offset, broker_ms FROM checkpoint WHERE topic = $1 AND partition = $2",
        where.topic.value,
        where.partition,
    )
    return (
        None if row is None else Checkpoint(row["log_id"], str(row["genesis_id"]), row["next_offset"], row["broker_ms"])
    )


def fence(where: Partition, before: Checkpoint | None, after: Checkpoint) -> RowChange:
    """Move the checkpoint by compare-and-set: returns a row only if it was where this worker left it."""
    if before is None:
        return RowChange(
            """
            INSERT INTO checkpoint (topic, partition, log_id, genesis_id, next_offset, broker_ms)
            VALUES ($1::text, $2::integer, $3::text, $4::uuid, $5::bigint, $6::bigint) ON CONFLICT DO NOTHING
            RETURNING next_offset
            """,
            (
                where.topic.value,
                where.partition,
                after.log_id,
                after.genesis_id,
                after.next_offset,
                after.broker_ms,
            ),
        )
    return RowChange(
        """
        UPDATE checkpoint SET next_offset = $3::bigint, broker_ms = $4::bigint
        WHERE topic = $1::text AND partition = $2::integer
          AND next_offset = $5::bigint AND log_id = $6::text AND genesis_id = $7::uuid
        RETURNING next_offset
        """,
        (
            where.topic.value,
            where.partition,
            after.next_offset,
            after.broker_ms,
            before.next_offset,
            before.log_id,
            before.genesis_id,
        ),
    )


async def commit(
    connection: Connection,
    namespace: str,
    where: Partition,
    before: Checkpoint | None,
    after: Checkpoint,
    changes: Sequence[RowChange],
    *,
    announce: bool = True,
) -> None:
    """Write the changes and the checkpoint in one statement; with `announce`, notify waiting readers when it commits.

    Raises Fenced, and writes nothing, if the checkpoint is not where this worker left it.
    """
    final = RowChange("SELECT next_offset FROM fence", ())
    if announce:
        notice = (progress_channel(namespace), f"{where}:{after.next_offset}")
        final = RowChange("SELECT pg_notify($1::text, $2::text) FROM fence", notice)
    text, values = combined(fence(where, before, after), changes, final)
    if not await connection.fetch(text, *values):
        raise Fenced(f"{where}: the checkpoint is no longer at {before.next_offset if before else 'the start'}")
