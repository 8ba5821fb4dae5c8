"""Holes in writers' sequences: numbers that are missing below the highest received one.

A hole is an event that has a number but is not in the log: its spool was deleted, or is still to be sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.sequences import Ranges
from runfold_schemas.positions.topics import Topic

FIRST_HOLES = 5
"""Ranges of a writer that are listed, so that an entry stays on one line."""
_HAS_HOLES = "bounds[1] > 0 OR cardinality(bounds) > 2"
"""True of a row of `sequence` whose ranges leave out a number."""
_MISSING = """
    bounds[cardinality(bounds)] - (
        SELECT sum(CASE WHEN at % 2 = 0 THEN bound ELSE -bound END) FROM unnest(bounds) WITH ORDINALITY AS b (bound, at)
    )
"""
"""The highest received number plus one, less the numbers received: `bounds` is start, stop, start, stop…"""


@dataclass(frozen=True, slots=True)
class SequenceHoles:
    """The missing numbers of one writer in one entity's sequence. `first`: the first ranges, half-open."""

    where: Partition
    entity: str
    writer: str
    missing: int
    first: tuple[tuple[int, int], ...]

    def as_json(self) -> dict[str, Any]:
        """Return the holes as JSON; `first` as inclusive ranges, such as "3" and "7-9"."""
        return {
            "partition": str(self.where),
            "entity": self.entity,
            "writer": self.writer,
            "missing": self.missing,
            "first": [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in self.first],
        }


@dataclass(frozen=True, slots=True)
class HoleCounts:
    """The holes of one topic: writers (per entity) that have some, and numbers that are missing in all."""

    writers: int
    missing: int


async def hole_counts(connection: Connection) -> Mapping[Topic, HoleCounts]:
    """Count the holes of each topic that has a live generation. Scans the `sequence` tables."""
    rows = await connection.fetch(
        f"""
        SELECT g.projection, coalesce(h.writers, 0) AS writers, coalesce(h.missing, 0)::bigint AS missing
        FROM generation g LEFT JOIN (
            SELECT projection, count(*) AS writers, sum({_MISSING}) AS missing
            FROM sequence WHERE {_HAS_HOLES} GROUP BY 1
        ) h USING (projection)
        WHERE g.state = 'live'
        """  # noqa: S608
    )
    return {Projection(row["projection"]).topic: HoleCounts(row["writers"], row["missing"]) for row in rows}


async def writers_with_holes(connection: Connection, limit: int, offset: int = 0) -> list[SequenceHoles]:
    """List writers that have holes, by topic, entity and writer. Scans the `sequence` tables."""
    rows = await connection.fetch(
        f"""
        SELECT projection, partition, entity, writer, bounds FROM sequence WHERE {_HAS_HOLES}
        ORDER BY projection, entity, writer LIMIT $1 OFFSET $2
        """,  # noqa: S608
        limit,
        offset,
    )
    found = []
    for row in rows:
        ranges = Ranges(row["bounds"])
        where = Partition(Projection(row["projection"]).topic, row["partition"])
        first = tuple(ranges.missing[:FIRST_HOLES])
        found.append(SequenceHoles(where, row["entity"], row["writer"], ranges.holes, first))
    return found
