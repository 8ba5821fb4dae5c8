"""Folds commit without waiting for Postgres's disk: a crash of Postgres takes the last commits back."""

import asyncio

from runfold_log.writer import LogWriter
from runfold_projections.catalog import COMMON_TABLES, entities_of
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import open_connection
from runfold_schemas.events.experiments import ExperimentCreated
from tests.support.installations.in_process import working
from tests.support.installations.installation import Installation, difference

OWN = [
    table.name
    for table in (*COMMON_TABLES, *(own for entity in entities_of(Projection.EXPERIMENTS) for own in entity.tables))
]


async def test_commits_that_a_crash_of_postgres_took_back_are_folded_again_though_nothing_new_comes(
    installation: Installation,
) -> None:
    generation = f"{installation.namespace}_experiments_1"
    async with (
        working(installation),
        LogWriter(installation.services.kafka, installation.namespace) as log,
        open_connection(installation.services.postgres, generation, application="test") as connection,
    ):
        await log.append(ExperimentCreated(name="kept"))
        await installation.settled()
        for table in OWN:
            await connection.execute(f"CREATE TEMPORARY TABLE saved_{table} AS TABLE {table}")
        await log.append(ExperimentCreated(name="taken back"))
        await installation.settled()

        async with connection.transaction():
            for table in OWN:
                await connection.execute(f"TRUNCATE {table}")
                await connection.execute(f"INSERT INTO {table} TABLE saved_{table}")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runfold worker'"
        )

        await installation.settled(30)
        assert await connection.fetchval("SELECT count(*) FROM experiment WHERE name = 'taken back'") == 1
        async with asyncio.timeout(60):
            assert difference(await installation.rows(), await installation.replayed()) == ""
