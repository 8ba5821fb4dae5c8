"""Which runs were there at a moment of the log."""

from collections.abc import Sequence

from runfold_projections.generations.generations import Projection
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.wire import schema_id_of
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_of
from runfold_schemas.positions.vector import Vector

from .journal import Entry, read_entries
from .journal_reader import past_of


def partition_of_run(vector: Vector, topic: Topic, run_id: str) -> Partition:
    """The run's partition in this topic; the vector names all partitions that there are."""
    return Partition(topic, partition_of(run_id.encode(), sum(where.topic is topic for where in vector)))


def below(vector: Vector, topic: Topic, run_id: str) -> int:
    """Of the run's partition in this topic, the offset below which records count."""
    return vector.get(partition_of_run(vector, topic, run_id), 0)


async def born(connection: Connection, run_ids: Sequence[str], vector: Vector) -> set[str]:
    """Those of these runs that had been created."""
    ends = {run_id: below(vector, Topic.RUNS, run_id) for run_id in run_ids}
    found: set[str] = set()
    rows = await connection.fetch(_FIRST, list(ends), list(ends.values()))
    for row in rows:
        run_id = row["entity"]
        # Mostly the first event of all; before it may stand what was refused since there was no such run, and files.
        if _creates(read_entries(row["data"]), ends[run_id]) or await _later(connection, run_id, ends[run_id]):
            found.add(run_id)
    return found


async def _later(connection: Connection, run_id: str, end: int) -> bool:
    past = await past_of(connection, Projection.RUNS, run_id, end)
    return past.state is not None or _creates([told.entry for told in past.events], end)


def _creates(entries: Sequence[Entry], end: int) -> bool:
    catalog = released_catalog()
    return any(
        entry.offset < end and not entry.code and catalog.get(schema_id_of(entry.value)).subject == RunCreated.subject
        for entry in entries
    )


_FIRST = """
SELECT asked.entity, first.data FROM unnest($1::text[], $2::bigint[]) AS asked (entity, below) CROSS JOIN LATERAL (
    SELECT j.data FROM journal j
    WHERE j.projection = 'runs' AND j.entity = asked.entity AND j.first_offset < asked.below ORDER BY j.first_offset LIMIT 1
) AS first
"""
