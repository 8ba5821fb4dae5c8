"""How far a partition has been folded. The checkpoint moves by compare-and-set in the fold's own transaction."""

from dataclasses import dataclass

from runfold_schemas.position import Partition

from .database import Connection
from .errors import Fenced


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Next offset to fold, and which log it counts in. `broker_ms` is the broker's time of the last record folded."""

    log_id: str
    genesis_id: str
    next_offset: int
    broker_ms: int


async def load(connection: Connection, where: Partition) -> Checkpoint | None:
    """The partition's checkpoint in the generation that the connection's search_path names; None before the first."""
    row = await connection.fetchrow(
        "SELECT log_id, genesis_id, next_offset, broker_ms FROM checkpoint WHERE topic = $1 AND partition = $2",
        where.topic.value,
        where.partition,
    )
    return (
        None if row is None else Checkpoint(row["log_id"], str(row["genesis_id"]), row["next_offset"], row["broker_ms"])
    )


async def advance(connection: Connection, where: Partition, before: Checkpoint | None, after: Checkpoint) -> None:
    """Move the checkpoint, first thing in the transaction; Fenced if it is not where this worker left it."""
    if before is None:
        status = await connection.execute(
            """
            INSERT INTO checkpoint (topic, partition, log_id, genesis_id, next_offset, broker_ms)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
            """,
            where.topic.value,
            where.partition,
            after.log_id,
            after.genesis_id,
            after.next_offset,
            after.broker_ms,
        )
    else:
        status = await connection.execute(
            """
            UPDATE checkpoint SET next_offset = $3, broker_ms = $4
            WHERE topic = $1 AND partition = $2 AND next_offset = $5 AND log_id = $6 AND genesis_id = $7
            """,
            where.topic.value,
            where.partition,
            after.next_offset,
            after.broker_ms,
            before.next_offset,
            before.log_id,
            before.genesis_id,
        )
    if not status.endswith(" 1"):
        raise Fenced(f"{where}: the checkpoint is not at {before.next_offset if before else 'the start'} any more")


def progress_channel(namespace: str) -> str:
    """Channel on which a commit announces `topic:partition:next_offset`."""
    return f"{namespace}_progress"


async def announce(connection: Connection, namespace: str, where: Partition, next_offset: int) -> None:
    """Tell waiting readers, at commit, how far the partition is."""
    await connection.execute("SELECT pg_notify($1, $2)", progress_channel(namespace), f"{where}:{next_offset}")
