"""Which runs existed at a moment of the log."""

from collections.abc import Sequence

from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.wire import schema_id_of
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_of
from runfold_schemas.positions.vector import Vector

from .journal import JournalEntry, decode_entries
from .journal_reader import load_replay


def partition_of_run(vector: Vector, topic: Topic, run_id: str) -> Partition:
    """Return the run's partition in a topic. The vector names all partitions of the log."""
    return Partition(topic, partition_of(run_id.encode(), sum(where.topic is topic for where in vector)))


def run_end_offset(vector: Vector, topic: Topic, run_id: str) -> int:
    """Return the end offset, at the moment of a vector, of the run's partition in a topic."""
    return vector.get(partition_of_run(vector, topic, run_id), 0)


async def existing_runs(connection: Connection, run_ids: Sequence[str], vector: Vector) -> set[str]:
    """Return those of the runs that had been created at the moment of a vector."""
    ends = {run_id: run_end_offset(vector, Topic.RUNS, run_id) for run_id in run_ids}
    found: set[str] = set()
    rows = await connection.fetch(
        """
        SELECT wanted.entity, first.data
        FROM unnest($1::text[], $2::bigint[]) AS wanted (entity, end_offset) CROSS JOIN LATERAL (
            SELECT j.data FROM journal j
            WHERE j.projection = 'runs' AND j.entity = wanted.entity AND j.first_offset < wanted.end_offset
            ORDER BY j.first_offset LIMIT 1
        ) AS first
        """,
        list(ends),
        list(ends.values()),
    )
    for row in rows:
        run_id = row["entity"]
        # The creation is mostly the first event. Before it there may be files, and events rejected for lack of the run.
        if _creates(decode_entries(row["data"]), ends[run_id]) or await _created_later(
            connection, run_id, ends[run_id]
        ):
            found.add(run_id)
    return found


async def _created_later(connection: Connection, run_id: str, end_offset: int) -> bool:
    replay = await load_replay(connection, Projection.RUNS, run_id, end_offset)
    return replay.state is not None or _creates([event.entry for event in replay.events], end_offset)


def _creates(entries: Sequence[JournalEntry], end_offset: int) -> bool:
    catalog = released_catalog()
    return any(
        entry.offset < end_offset
        and not entry.code
        and catalog.get(schema_id_of(entry.value)).subject == RunCreated.subject
        for entry in entries
    )
