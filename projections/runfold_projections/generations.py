"""Generations: a Postgres schema per projection and replay; views in the control schema show the live ones."""

from dataclasses import dataclass
from enum import StrEnum

from runfold_schemas.topics import Topic

from .database import Connection, generation_schema, identifier, sql


class Projection(StrEnum):
    """The projections, each folded from one topic."""

    EXPERIMENTS = "experiments"
    RUNS = "runs"
    METRICS = "metrics"

    @property
    def topic(self) -> Topic:
        return Topic(self.value)


COMMON_TABLES = ("checkpoint", "sequence", "rejection", "set_aside")
TABLES: dict[Projection, tuple[str, ...]] = {
    Projection.EXPERIMENTS: ("experiment", "experiment_tag"),
    Projection.RUNS: ("run", "run_param", "run_tag", "run_dataset", "run_model", "artifact", "run_change"),
    Projection.METRICS: (
        "attempt",
        "attempt_start",
        "cut",
        "fork",
        "segment",
        "metric_block",
        "metric_repeat",
        "metric_change",
    ),
}
VIEWS: dict[Projection, tuple[str, ...]] = {Projection.METRICS: ("metric",)}
"""What shows the tables in another form."""
NOT_CANONICAL = frozenset({"run_change", "metric_change", "metric_repeat"})
"""Tables that show how the log was cut into batches, or what in it was there before: facts about the log, no state."""

LAYOUTS: dict[Projection, int] = {
    Projection.EXPERIMENTS: 1,
    Projection.RUNS: 3,
    Projection.METRICS: 6,
}
"""Number of the tables' layout per projection, raised with every change of `sql/tables`: a generation has one for life."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One built or building read model."""

    projection: Projection
    number: int
    schema_name: str
    state: str


async def generations(connection: Connection) -> list[Generation]:
    """All generations that workers fold: the live ones and those being built.

    Projections and layouts of other releases are not ours.
    """
    rows = await connection.fetch(
        """
        SELECT g.projection, g.number, g.schema_name, g.state
        FROM generation g JOIN unnest($1::text[], $2::integer[]) AS ours (projection, layout) USING (projection, layout)
        WHERE g.state <> 'retired' ORDER BY g.projection, g.number
        """,
        [projection.value for projection in LAYOUTS],
        list(LAYOUTS.values()),
    )
    return [Generation(Projection(r["projection"]), r["number"], r["schema_name"], r["state"]) for r in rows]


async def create_generation(connection: Connection, namespace: str, projection: Projection) -> Generation:
    """A new, empty generation in state `building`; workers begin to fold it from the start of the log.

    Must run in a transaction. The connection's search_path is the control schema.
    """
    number = await connection.fetchval(
        "SELECT coalesce(max(number), 0) + 1 FROM generation WHERE projection = $1", projection.value
    )
    schema_name = generation_schema(namespace, projection.value, number)
    await connection.execute(
        "INSERT INTO generation (projection, number, schema_name, state, layout) VALUES ($1, $2, $3, 'building', $4)",
        projection.value,
        number,
        schema_name,
        LAYOUTS[projection],
    )
    await connection.execute(f"CREATE SCHEMA {identifier(schema_name)}")
    await connection.execute(f"SET LOCAL search_path = {identifier(schema_name)}")
    await connection.execute(sql("tables/common.sql"))
    await connection.execute(sql(f"tables/{projection.value}.sql"))
    await connection.execute(f"SET LOCAL search_path = {identifier(namespace)}")
    return Generation(projection, number, schema_name, "building")


async def switch(connection: Connection, generation: Generation) -> None:
    """Make a generation the live one: its views replace the old ones. Must run in a transaction.

    Readers that hold the old views finish first; later ones see only the new.
    """
    await connection.execute(
        "UPDATE generation SET state = 'retired', switched_at = now() WHERE projection = $1 AND state = 'live'",
        generation.projection.value,
    )
    await connection.execute(
        "UPDATE generation SET state = 'live', switched_at = now() WHERE projection = $1 AND number = $2",
        generation.projection.value,
        generation.number,
    )
    live = [g for g in await generations(connection) if g.state == "live"]
    for table in COMMON_TABLES:
        parts = [
            f"SELECT '{g.projection.value}'::text AS projection, * FROM {identifier(g.schema_name)}.{table}"
            for g in live
        ]
        await _show(connection, table, " UNION ALL ".join(parts))
    for table in (*TABLES[generation.projection], *VIEWS.get(generation.projection, ())):
        await _show(connection, table, f"SELECT * FROM {identifier(generation.schema_name)}.{table}")


async def _show(connection: Connection, view: str, query: str) -> None:
    # Dropped rather than replaced: another generation's table may have other columns.
    await connection.execute(f"DROP VIEW IF EXISTS {view}")
    await connection.execute(f"CREATE VIEW {view} AS {query}")
