"""Lists generations, with their checkpoints and sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection, identifier
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import write_vector

from .generations import Generation, generations


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """A generation with its checkpoints and its size in bytes."""

    generation: Generation
    layout: int
    snapshot: str | None
    created_at: datetime
    switched_at: datetime | None
    checkpoints: dict[Partition, int]
    size: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the API."""
        return {
            "projection": self.generation.projection.value,
            "number": self.generation.number,
            "state": "snapshot" if self.generation.state == "past" else self.generation.state,
            "layout": self.layout,
            "snapshot": self.snapshot,
            "vector": write_vector(self.checkpoints),
            "bytes": self.size,
            "created_at": self.created_at.isoformat(),
            "switched_at": None if self.switched_at is None else self.switched_at.isoformat(),
        }


async def inventory(connection: Connection) -> list[GenerationInfo]:
    """List all generations of this release's layouts but retired ones. The search_path is the control schema."""
    found = await generations(connection)
    names = [generation.schema_name for generation in found]
    size = await sizes(connection, names)
    facts = {
        row["schema_name"]: row
        for row in await connection.fetch(
            """
            SELECT schema_name, layout, past, created_at, switched_at FROM generation
            WHERE schema_name = ANY ($1::text[])
            """,
            names,
        )
    }
    entries = []
    for generation in found:
        row = facts.get(generation.schema_name)
        try:
            have = await checkpoints_of(connection, generation.schema_name)
        except asyncpg.UndefinedTableError:
            continue  # dropped meanwhile
        if row is not None:
            entries.append(
                GenerationInfo(
                    generation,
                    row["layout"],
                    row["past"],
                    row["created_at"],
                    row["switched_at"],
                    have,
                    size.get(generation.schema_name, 0),
                )
            )
    return entries


async def generations_of(connection: Connection, projection: Projection, state: str) -> list[Generation]:
    """List a projection's generations in a state, the newest first."""
    found = [g for g in await generations(connection) if g.projection is projection and g.state == state]
    return found[::-1]


async def checkpoints_of(connection: Connection, schema_name: str) -> dict[Partition, int]:
    """Read the checkpoints of a generation in any state."""
    rows = await connection.fetch(
        f"SELECT topic, partition, next_offset FROM {identifier(schema_name)}.checkpoint"  # noqa: S608 - checked and quoted
    )
    return {Partition(Topic(row["topic"]), row["partition"]): row["next_offset"] for row in rows}


async def is_at_bound(connection: Connection, generation: Generation) -> bool:
    """Whether a bounded generation is folded as far as it may be."""
    if generation.until is None:
        return False
    have = await checkpoints_of(connection, generation.schema_name)
    topic = generation.projection.topic
    return all(have.get(Partition(topic, number), 0) >= end for number, end in enumerate(generation.until))


async def sizes(connection: Connection, schema_names: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each schema's tables and indexes."""
    rows = await connection.fetch(
        """
        SELECT n.nspname, sum(pg_total_relation_size(c.oid))::bigint AS bytes
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'r' GROUP BY 1
        """,
        schema_names,
    )
    return {row["nspname"]: row["bytes"] for row in rows}
