"""The control schema's migrations: numbered, forward only, each once, checked against what was applied."""

import hashlib
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from runfold_projections import catalog
from runfold_projections.core.errors import NotMigrated
from runfold_projections.core.projection import Projection
from runfold_projections.generations.generations import create_generation, retire, switch
from runfold_projections.generations.snapshots import complete_snapshots
from runfold_projections.postgres.connection import Connection, identifier, open_connection, sql

_FOLDER = "sql/control"


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, statements) of this release, in order."""
    found = []
    for entry in files("runfold_projections").joinpath(_FOLDER).iterdir():
        if entry.name.endswith(".sql"):
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            found.append((int(number), name, entry.read_text()))
    return sorted(found)


async def migrate(dsn: str, namespace: str) -> list[str]:
    """Bring the control schema to this release and give every projection a live generation; answers what was done.

    A live generation with the layout of an older release is replaced by an empty one, which workers fold from the start
    of the log; strong reads wait for them. Other generations of older layouts are dropped, snapshots rebuilt. An
    advisory lock serializes concurrent calls. NotMigrated if the schema is newer than this release.
    """
    done = []
    async with (
        open_connection(dsn, namespace, application="runfold migrate", durable=True, timeout=60) as connection,
        connection.transaction(),
    ):
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('runfold migrate ' || $1, 0))", namespace
        )
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(namespace)}")
        await connection.execute(sql("migration.sql"))
        applied = await _applied(connection)
        known = migrations()
        _check(applied, known)
        for number, name, statements in known:
            if number not in applied:
                await connection.execute(statements)
                await connection.execute(
                    "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)",
                    number,
                    name,
                    _checksum(statements),
                )
                done.append(f"migration {number:04d} {name}")
        for projection in Projection:
            live = await _live(connection, projection)
            if live is None or live.layout < catalog.layout_of(projection):
                generation = await create_generation(connection, namespace, projection)
                await switch(connection, generation)
                done.append(f"generation {generation.schema_name}")
        done += await _leave_older_layouts(connection, namespace)
    return done


async def _leave_older_layouts(connection: Connection, namespace: str) -> list[str]:
    """Drop generations of older layouts, which no release with this control schema reads, and rebuild snapshots."""
    layouts = catalog.layouts()
    rows = await connection.fetch(
        """
        SELECT g.schema_name
        FROM generation g JOIN unnest($1::text[], $2::integer[]) AS ours (projection, layout) USING (projection)
        WHERE g.state <> 'retired' AND g.layout < ours.layout
        """,
        [projection.value for projection in layouts],
        list(layouts.values()),
    )
    await retire(connection, [row["schema_name"] for row in rows])
    return [f"generation {schema_name} of past" for schema_name in await complete_snapshots(connection, namespace)]


class _Live(NamedTuple):
    layout: int


async def _live(connection: Connection, projection: Projection) -> _Live | None:
    """The projection's live generation; NotMigrated if its layout is of a newer release."""
    row = await connection.fetchrow(
        "SELECT layout FROM generation WHERE projection = $1 AND state = 'live'", projection.value
    )
    if row is not None and row["layout"] > catalog.layout_of(projection):
        raise NotMigrated(f"the live tables of `{projection.value}` are of a newer release: use that release")
    return None if row is None else _Live(row["layout"])


async def check_migrated(connection: Connection) -> None:
    """NotMigrated unless the control schema and the layouts of the live tables are exactly this release's."""
    try:
        applied = await _applied(connection)
    except asyncpg.UndefinedTableError:
        raise NotMigrated("the control schema does not exist: run `runfold migrate`") from None
    known = migrations()
    _check(applied, known)
    missing = [number for number, _, _ in known if number not in applied]
    if missing:
        raise NotMigrated(f"migrations {missing} of this release are not applied: run `runfold migrate`")
    for projection in Projection:
        live = await _live(connection, projection)
        if live is None or live.layout < catalog.layout_of(projection):
            raise NotMigrated(f"the live tables of `{projection.value}` are of an older release: run `runfold migrate`")


def _check(applied: dict[int, str], known: list[tuple[int, str, str]]) -> None:
    ours = {number: _checksum(statements) for number, _, statements in known}
    newer = sorted(set(applied) - set(ours))
    if newer:
        raise NotMigrated(f"migrations {newer} are of a newer release: use that release")
    for number, checksum in applied.items():
        if ours[number] != checksum:
            raise NotMigrated(f"migration {number} was applied with other statements than this release holds")


async def _applied(connection: Connection) -> dict[int, str]:
    return {row["number"]: row["checksum"] for row in await connection.fetch("SELECT number, checksum FROM migration")}


def _checksum(statements: str) -> str:
    return hashlib.sha256(statements.encode()).hexdigest()
