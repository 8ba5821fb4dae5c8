"""Snapshots: a generation of every projection, folded up to a position vector and no further, with views of its own.

The views are in the schema `<namespace>_past_<name>` and have the names of the live ones, `generation` among them. So
every query reads from a snapshot if the search_path names that schema.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runfold_projections.core.errors import BadSnapshot, NoSuchSnapshot
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection, identifier
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import partition_count
from runfold_schemas.positions.vector import Vector, parse_vector, write_vector

from .generations import Generation, create_generation, generations, retire, show_common, show_generations, show_tables
from .inventory import checkpoints_of, sizes

_NAME = re.compile(r"[a-z0-9_]{1,17}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of the log as read models of their own. `folded` and `total` count records."""

    name: str
    vector: dict[Partition, int]
    asked: str
    created_at: datetime
    folded: int
    total: int
    size: int
    """Bytes in Postgres."""

    @property
    def ready(self) -> bool:
        """Whether every partition is folded up to the vector."""
        return self.folded == self.total

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the API."""
        return {
            "name": self.name,
            "vector": write_vector(self.vector),
            "asked": self.asked,
            "created_at": self.created_at.isoformat(),
            "folded": self.folded,
            "total": self.total,
            "ready": self.ready,
            "bytes": self.size,
        }


def snapshot_schema(namespace: str, name: str) -> str:
    """Return the Postgres schema of a snapshot's views."""
    return f"{namespace}_past_{check_name(name)}"


def check_name(name: str) -> str:
    """Return the name; BadSnapshot unless it is valid."""
    if not _NAME.fullmatch(name):
        raise BadSnapshot(f"snapshot {name!r}: a name has 1 to 17 lower-case letters, digits and underscores")
    return name


def folded_part(vector: Vector) -> dict[Partition, int]:
    """Return the vector's partitions that projections fold, without empty ones: equal moments get equal vectors."""
    topics = {projection.topic for projection in Projection}
    return {where: end for where, end in vector.items() if where.topic in topics and end > 0}


async def create_snapshot(
    connection: Connection, namespace: str, name: str, vector: Vector, asked: str, partitions: int
) -> None:
    """Create a snapshot, which workers fold. BadSnapshot if the name is taken, or another one has the vector.

    The search_path is the control schema.
    """
    wanted = folded_part(vector)
    schema = snapshot_schema(namespace, name)
    async with connection.transaction():
        await connection.execute("LOCK TABLE past IN EXCLUSIVE MODE")
        same = await connection.fetchrow(
            "SELECT name, vector FROM past WHERE name = $1 OR vector = $2", name, write_vector(wanted)
        )
        if same is not None:
            what = f"is snapshot `{same['name']}` already" if same["name"] != name else "has a name that is taken"
            raise BadSnapshot(
                f"snapshot {name!r} of {write_vector(wanted)} {what}: use it, or "
                f"`runfold snapshot drop {same['name']}` first"
            )
        await connection.execute(
            "INSERT INTO past (name, vector, asked) VALUES ($1, $2, $3)", name, write_vector(wanted), asked
        )
        await connection.execute(f"CREATE SCHEMA {identifier(schema)}")
        for projection in Projection:
            await create_generation(
                connection, namespace, projection, until=_until(projection, wanted, partitions), snapshot=name
            )
        await _show(connection, namespace, name)


def _until(projection: Projection, vector: Vector, partitions: int) -> list[int]:
    count = partition_count(projection.topic, partitions)
    return [vector.get(Partition(projection.topic, number), 0) for number in range(count)]


async def complete_snapshots(connection: Connection, namespace: str) -> list[str]:
    """Create missing generations of snapshots, as after a change of layout; return their schemas.

    Needs a transaction.
    """
    made: list[str] = []
    for row in await connection.fetch("SELECT name, vector FROM past ORDER BY name"):
        there = {g.projection for g in await _generations_of(connection, row["name"])}
        missing = [projection for projection in Projection if projection not in there]
        vector = parse_vector(row["vector"]) if row["vector"] else {}
        # Partitions that the vector does not name have nothing to fold, so it implies how many are needed.
        partitions = 1 + max((where.partition for where in vector), default=0)
        for projection in missing:
            generation = await create_generation(
                connection, namespace, projection, until=_until(projection, vector, partitions), snapshot=row["name"]
            )
            made.append(generation.schema_name)
        if missing:
            await _show(connection, namespace, row["name"])
    return made


async def _generations_of(connection: Connection, name: str) -> list[Generation]:
    numbers = {
        (row["projection"], row["number"])
        for row in await connection.fetch(
            "SELECT projection, number FROM generation WHERE past = $1 AND state = 'past'", name
        )
    }
    return [g for g in await generations(connection) if (g.projection.value, g.number) in numbers]


async def _show(connection: Connection, namespace: str, name: str) -> None:
    schema = snapshot_schema(namespace, name)
    found = await _generations_of(connection, name)
    await show_common(connection, found, schema)
    for generation in found:
        await show_tables(connection, generation, schema)
    await show_generations(connection, namespace, name, schema)


async def drop_snapshot(connection: Connection, namespace: str, name: str) -> None:
    """Drop a snapshot with all its tables. NoSuchSnapshot if none has this name."""
    schema = snapshot_schema(namespace, name)
    async with connection.transaction():
        gone = await connection.fetchval("DELETE FROM past WHERE name = $1 RETURNING name", name)
        if gone is None:
            raise NoSuchSnapshot(f"there is no snapshot `{name}`; `runfold snapshot list` shows those that there are")
        await connection.execute(f"DROP SCHEMA IF EXISTS {identifier(schema)} CASCADE")
        rows = await connection.fetch("SELECT schema_name FROM generation WHERE past = $1 AND state = 'past'", name)
        await retire(connection, [row["schema_name"] for row in rows])


async def read_snapshots(connection: Connection, *, name: str | None = None) -> list[Snapshot]:
    """Read all snapshots, or the one of a name, with their progress."""
    found = []
    for row in await connection.fetch(
        "SELECT name, vector, asked, created_at FROM past WHERE $1::text IS NULL OR name = $1 ORDER BY created_at", name
    ):
        vector = parse_vector(row["vector"]) if row["vector"] else {}
        schemas = [g.schema_name for g in await _generations_of(connection, row["name"])]
        have: dict[Partition, int] = {}
        for schema in schemas:
            have |= await checkpoints_of(connection, schema)
        folded = sum(min(have.get(where, 0), end) for where, end in vector.items())
        if any(have.get(where, 0) > end for where, end in vector.items()):
            folded = -1  # a worker of an older release has folded past it
        size = await sizes(connection, schemas)
        found.append(
            Snapshot(
                row["name"], vector, row["asked"], row["created_at"], folded, sum(vector.values()), sum(size.values())
            )
        )
    return found


async def snapshot_vector(connection: Connection, name: str) -> Vector | None:
    """Return the vector of the snapshot of this name; None if there is none."""
    text: str | None = await connection.fetchval("SELECT vector FROM past WHERE name = $1", name)
    return None if text is None else parse_vector(text) if text else {}


async def snapshot_at(connection: Connection, vector: Vector) -> str | None:
    """Return the name of the snapshot of this vector; None if there is none."""
    name: str | None = await connection.fetchval(
        "SELECT name FROM past WHERE vector = $1", write_vector(folded_part(vector))
    )
    return name
