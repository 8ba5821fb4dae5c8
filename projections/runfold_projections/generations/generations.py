"""Generations: a Postgres schema per projection and replay; views in the control schema show the live ones.

States: `building` until it is switched; `live`; `standby`, which is still folded for an immediate rollback; `past`, of
a snapshot, folded up to a vector and no further; `retired`, whose schema is dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runfold_projections import catalog
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection, generation_schema, identifier


@dataclass(frozen=True, slots=True)
class Generation:
    """A read model.

    `until`: the end offset of each partition, from 0 on, beyond which it is not folded; None: no bound.
    """

    projection: Projection
    number: int
    schema_name: str
    state: str
    until: tuple[int, ...] | None = None

    def bound(self, partition: int) -> int | None:
        """Return the end offset up to which a partition may be folded; None: no bound."""
        if self.until is None:
            return None
        return self.until[partition] if partition < len(self.until) else 0


async def generations(connection: Connection) -> list[Generation]:
    """List the generations that workers of this release fold.

    Generations with layouts of other releases are left out.
    """
    layouts = catalog.layouts()
    rows = await connection.fetch(
        """
        SELECT g.projection, g.number, g.schema_name, g.state, g.until
        FROM generation g JOIN unnest($1::text[], $2::integer[]) AS ours (projection, layout) USING (projection, layout)
        WHERE g.state <> 'retired' ORDER BY g.projection, g.number
        """,
        [projection.value for projection in layouts],
        list(layouts.values()),
    )
    return [
        Generation(
            Projection(r["projection"]),
            r["number"],
            r["schema_name"],
            r["state"],
            None if r["until"] is None else tuple(r["until"]),
        )
        for r in rows
    ]


async def create_generation(
    connection: Connection,
    namespace: str,
    projection: Projection,
    *,
    until: Sequence[int] | None = None,
    snapshot: str | None = None,
    code: str | None = None,
) -> Generation:
    """Create an empty generation in state `building`, or of a snapshot; workers fold it from the log's start.

    Must run in a transaction. The connection's search_path is the control schema.
    """
    number = await connection.fetchval(
        "SELECT coalesce(max(number), 0) + 1 FROM generation WHERE projection = $1", projection.value
    )
    schema_name = generation_schema(namespace, projection.value, number)
    state = "building" if snapshot is None else "past"
    await connection.execute(
        """
        INSERT INTO generation (projection, number, schema_name, state, layout, until, past, code)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        projection.value,
        number,
        schema_name,
        state,
        catalog.layout_of(projection),
        until,
        snapshot,
        code,
    )
    await connection.execute(f"CREATE SCHEMA {identifier(schema_name)}")
    await connection.execute(f"SET LOCAL search_path = {identifier(schema_name)}")
    for statements in catalog.table_statements(projection):
        await connection.execute(statements)
    await connection.execute(f"SET LOCAL search_path = {identifier(namespace)}")
    return Generation(projection, number, schema_name, state, None if until is None else tuple(until))


async def switch(connection: Connection, generation: Generation) -> None:
    """Make a generation the live one: its views replace the old ones, and the old live one becomes the standby.

    Needs a transaction.

    Readers that hold the old views finish first; later ones see only the new.
    """
    await connection.execute(
        "UPDATE generation SET state = 'standby', switched_at = now() WHERE projection = $1 AND state = 'live'",
        generation.projection.value,
    )
    await connection.execute(
        "UPDATE generation SET state = 'live', until = NULL, switched_at = now() WHERE projection = $1 AND number = $2",
        generation.projection.value,
        generation.number,
    )
    live = [g for g in await generations(connection) if g.state == "live"]
    await show_common(connection, live)
    await show_tables(connection, generation)


async def show_common(connection: Connection, of: Iterable[Generation], schema: str | None = None) -> None:
    """Make the views of the common tables over these generations, in a schema (None: the search_path's)."""
    for table in catalog.COMMON_TABLES:
        parts = [
            f"SELECT '{g.projection.value}'::text AS projection, * FROM {identifier(g.schema_name)}.{table.name}"
            for g in of
        ]
        await _show(connection, table.name, " UNION ALL ".join(parts), schema)


async def show_tables(connection: Connection, generation: Generation, schema: str | None = None) -> None:
    """Make the views over a generation's own tables."""
    for table in catalog.shown_tables(generation.projection):
        await _show(connection, table, f"SELECT * FROM {identifier(generation.schema_name)}.{table}", schema)


async def show_generations(connection: Connection, namespace: str, snapshot: str, schema: str) -> None:
    """Make the view that shows a snapshot's generations as live ones. The name must have been checked."""
    query = (
        "SELECT projection, number, schema_name, 'live'::text AS state, created_at, switched_at, layout "
        f"FROM {identifier(namespace)}.generation WHERE past = '{snapshot}' AND state = 'past'"
    )
    await _show(connection, "generation", query, schema)


async def _show(connection: Connection, table: str, query: str, schema: str | None) -> None:
    view = table if schema is None else f"{identifier(schema)}.{table}"
    # Dropped instead of replaced: another generation's table may have other columns.
    await connection.execute(f"DROP VIEW IF EXISTS {view}")
    await connection.execute(f"CREATE VIEW {view} AS {query}")


async def retire(connection: Connection, schema_names: Iterable[str]) -> None:
    """Drop the schemas of generations that are not live; their numbers are never reused. Needs a transaction."""
    names = list(schema_names)
    await connection.execute(
        """
        UPDATE generation SET state = 'retired', until = NULL
        WHERE schema_name = ANY ($1::text[]) AND state <> 'live'
        """,
        names,
    )
    await connection.execute("DELETE FROM lease WHERE handler = ANY ($1::text[])", names)
    for name in names:
        await connection.execute(f"DROP SCHEMA IF EXISTS {identifier(name)} CASCADE")
