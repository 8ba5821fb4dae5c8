"""How far a partition has been folded. The checkpoint moves by compare-and-set in the statement that writes the fold's rows."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runfold_projections.core.errors import Fenced
from runfold_projections.postgres.batch_statement import RowChange, combined
from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition, Position


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


def fence(where: Partition, before: Checkpoint | None, after: Checkpoint) -> RowChange:
    """Moves the checkpoint by compare-and-set; a row if it was where this worker left it, none if not."""
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
    """Write the changes and the checkpoint, and with `announce` tell waiting readers at commit how far the partition is.

    Fenced, and nothing is written, if the checkpoint is not where this worker left it.
    """
    told = RowChange("SELECT next_offset FROM fence", ())
    if announce:
        said = (progress_channel(namespace), f"{where}:{after.next_offset}")
        told = RowChange("SELECT pg_notify($1::text, $2::text) FROM fence", said)
    text, values = combined(fence(where, before, after), changes, told)
    if not await connection.fetch(text, *values):
        raise Fenced(f"{where}: the checkpoint is not at {before.next_offset if before else 'the start'} any more")


def progress_channel(namespace: str) -> str:
    """Channel on which a commit announces `topic:partition:next_offset`."""
    return f"{namespace}_progress"


async def hear(connection: Connection, channel: str, note: Callable[[Partition, int], None]) -> asyncio.Event:
    """Tell `note` of every position that is announced on a channel; the event is set when the connection is lost."""
    lost = asyncio.Event()

    def on_notice(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        with contextlib.suppress(ValueError):
            position = Position.parse(str(payload))
            note(position.where, position.offset)

    connection.add_termination_listener(lambda _connection: lost.set())
    await connection.add_listener(channel, on_notice)
    return lost


def wanted_channel(namespace: str) -> str:
    """Channel on which readers say up to where they wait, as `topic:partition:next_offset`."""
    return f"{namespace}_wanted"


async def want(connection: Connection, namespace: str, ends: Mapping[Partition, int]) -> None:
    """Tell the workers that somebody waits until these ends are folded."""
    await connection.execute(
        "SELECT pg_notify($1, said) FROM unnest($2::text[]) AS said",
        wanted_channel(namespace),
        [f"{where}:{end}" for where, end in ends.items()],
    )
