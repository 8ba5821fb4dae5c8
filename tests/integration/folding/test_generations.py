"""The control schema and its generations: migrations that may be run again, views that show what is live, leases in
tables.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from runfold_projections import catalog
from runfold_projections.control import leases, migrations
from runfold_projections.control.leases import Leasable
from runfold_projections.control.migrations import check_migrated, migrate
from runfold_projections.core.errors import NotMigrated
from runfold_projections.core.projection import Projection
from runfold_projections.generations.generations import Generation, create_generation, generations, switch
from runfold_projections.postgres.connection import Connection, open_connection, open_pool
from runfold_projections.postgres.read_transaction import checkpoints, read_transaction
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from tests.support.services.running import Services

_numbers = itertools.count(1)
RUNS = Partition(Topic.RUNS, 0)


@pytest.fixture
def namespace() -> str:
    """A name nobody used yet; nothing is made."""
    return f"generations{next(_numbers)}"


@asynccontextmanager
async def connected(services: Services, namespace: str) -> AsyncIterator[Connection]:
    async with open_connection(services.postgres, namespace, application="test") as connection:
        yield connection


async def schemas(connection: Connection, namespace: str) -> list[str]:
    found = await connection.fetch(
        "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, $1) ORDER BY 1", namespace
    )
    return [row["nspname"] for row in found]


async def test_migrating_makes_a_live_generation_of_each_projection_and_again_does_nothing(
    services: Services, namespace: str
) -> None:
    done = await migrate(services.postgres, namespace)
    assert done == [*_migrations(), *(f"generation {namespace}_{name}_1" for name in Projection)]
    assert await migrate(services.postgres, namespace) == []
    async with connected(services, namespace) as connection:
        await check_migrated(connection)
        assert [(g.projection, g.number, g.state) for g in await generations(connection)] == [
            (projection, 1, "live") for projection in sorted(Projection)
        ]
        assert await connection.fetch("SELECT * FROM run") == []


def _migrations() -> list[str]:
    return [f"migration {number:04d} {name}" for number, name, _ in migrations.migrations()]


async def test_several_that_migrate_at_once_do_it_once(services: Services, namespace: str) -> None:
    done = await asyncio.gather(*(migrate(services.postgres, namespace) for _ in range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, len(_migrations()) + len(Projection)]


async def test_a_migration_changed_after_it_was_applied_is_refused_by_its_number(
    services: Services, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(services.postgres, namespace)
    (number, name, statements), *others = migrations.migrations()
    monkeypatch.setattr(migrations, "migrations", lambda: [(number, name, statements + " "), *others])
    with pytest.raises(NotMigrated, match="migration 1 was applied with other statements"):
        await migrate(services.postgres, namespace)
    async with connected(services, namespace) as connection:
        with pytest.raises(NotMigrated, match="migration 1 was applied with other statements"):
            await check_migrated(connection)


async def test_an_older_release_refuses_a_newer_schema_and_a_newer_one_asks_for_its_migrations(
    services: Services, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(services.postgres, namespace)
    ours = migrations.migrations()
    newer = [*ours, (len(ours) + 1, "later", "CREATE TABLE later (n integer)")]
    async with connected(services, namespace) as connection:
        monkeypatch.setattr(migrations, "migrations", lambda: newer)
        with pytest.raises(
            NotMigrated, match=rf"migrations \[{len(newer)}\] of this release are not applied: run `runfold migrate`"
        ):
            await check_migrated(connection)
        assert await migrate(services.postgres, namespace) == [f"migration {len(newer):04d} later"]
        await check_migrated(connection)
        monkeypatch.setattr(migrations, "migrations", lambda: ours)
        for attempt in (lambda: migrate(services.postgres, namespace), lambda: check_migrated(connection)):
            with pytest.raises(NotMigrated, match=rf"migrations \[{len(newer)}\] are of a newer release"):
                await attempt()


async def test_a_migration_that_fails_leaves_nothing_behind(
    services: Services, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = migrations.migrations()
    monkeypatch.setattr(
        migrations, "migrations", lambda: [*ours, (len(ours) + 1, "broken", "CREATE TABLE a (n integer); SELECT 1/0")]
    )
    with pytest.raises(Exception, match="division by zero"):
        await migrate(services.postgres, namespace)
    async with connected(services, namespace) as connection:
        assert await schemas(connection, namespace) == []


async def test_a_schema_that_is_not_there_is_named_with_its_remedy(services: Services, namespace: str) -> None:
    async with connected(services, namespace) as connection:
        with pytest.raises(NotMigrated, match="does not exist: run `runfold migrate`"):
            await check_migrated(connection)


async def test_tables_of_an_older_layout_are_replaced_by_empty_ones_and_those_of_a_newer_one_refused(
    services: Services, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(services.postgres, namespace)
    await fill(services, f"{namespace}_runs_1", "old", 10)
    later = [
        replace(one, layout=one.layout + 1) if one.change_table == "run_change" else one for one in catalog.ENTITIES
    ]
    monkeypatch.setattr(catalog, "ENTITIES", tuple(later))
    async with connected(services, namespace) as connection:
        with pytest.raises(NotMigrated, match="tables of `runs` are of an older release: run `runfold migrate`"):
            await check_migrated(connection)
        assert {g.projection for g in await generations(connection)} == {*Projection} - {Projection.RUNS}

        assert await migrate(services.postgres, namespace) == [f"generation {namespace}_runs_2"]
        await check_migrated(connection)
        assert await connection.fetchval("SELECT count(*) FROM run") == 0
        assert f"{namespace}_runs_1" not in await schemas(connection, namespace)

        monkeypatch.undo()
        for attempt in (lambda: migrate(services.postgres, namespace), lambda: check_migrated(connection)):
            with pytest.raises(NotMigrated, match="tables of `runs` are of a newer release"):
                await attempt()


async def built(services: Services, connection: Connection, namespace: str) -> Generation:
    """A second generation of runs with one run and a checkpoint in it, not live yet."""
    async with connection.transaction():
        generation = await create_generation(connection, namespace, Projection.RUNS)
    await fill(services, generation.schema_name, "new", 5)
    return generation


async def fill(services: Services, schema: str, mark: str, offset: int) -> None:
    async with connected(services, schema) as connection:
        await connection.execute(
            "INSERT INTO run VALUES ('r', 0, 0, $1, '', 'RUNNING', 0, NULL, 'active', NULL, '', gen_random_uuid())",
            mark,
        )
        await connection.execute("INSERT INTO checkpoint VALUES ('runs', 0, 'log', gen_random_uuid(), $1, 0)", offset)


async def shown(connection: Connection) -> tuple[str, int]:
    return await connection.fetchval("SELECT name FROM run"), (await checkpoints(connection))[RUNS]


async def test_views_show_the_live_generation_and_a_switch_changes_all_of_them_at_once(
    services: Services, namespace: str
) -> None:
    await migrate(services.postgres, namespace)
    async with connected(services, namespace) as connection, connected(services, namespace) as reader:
        await fill(services, f"{namespace}_runs_1", "old", 10)
        new = await built(services, connection, namespace)
        assert (new.number, new.schema_name, new.state) == (2, f"{namespace}_runs_2", "building")
        assert await shown(reader) == ("old", 10)

        given_up = connection.transaction()
        await given_up.start()
        await switch(connection, new)
        assert await shown(connection) == ("new", 5)
        await given_up.rollback()
        assert await shown(reader) == ("old", 10), "a switch that was rolled back changed nothing"

        async with connection.transaction():
            await switch(connection, new)
            late = asyncio.create_task(shown(reader))
            done, _ = await asyncio.wait([late], timeout=0.2)
            assert not done, "who asks during the switch waits for its end"
        assert await late == ("new", 5)
        assert [(g.number, g.state) for g in await generations(connection) if g.projection is Projection.RUNS] == [
            (1, "standby"),
            (2, "live"),
        ]
        async with connected(services, f"{namespace}_runs_1") as standby:
            assert await standby.fetchval("SELECT name FROM run") == "old"
        assert await migrate(services.postgres, namespace) == []


async def test_a_reader_in_a_snapshot_sees_one_generation_to_its_end(services: Services, namespace: str) -> None:
    await migrate(services.postgres, namespace)
    async with (
        connected(services, namespace) as connection,
        open_pool(services.postgres, namespace, application="test") as pool,
    ):
        await fill(services, f"{namespace}_runs_1", "old", 10)
        new = await built(services, connection, namespace)

        async def switch_now() -> None:
            async with connection.transaction():
                await switch(connection, new)

        async with read_transaction(pool) as reader:
            assert (await checkpoints(reader))[RUNS] == 10
            switching = asyncio.create_task(switch_now())
            done, _ = await asyncio.wait([switching], timeout=0.2)
            assert not done, "the switch lets readers finish"
            assert await reader.fetchval("SELECT name FROM run") == "old"
        await switching
        async with read_transaction(pool) as reader:
            assert await shown(reader) == ("new", 5)


async def test_what_a_newer_release_adds_to_the_tables_is_not_an_older_workers_business(
    services: Services, namespace: str
) -> None:
    await migrate(services.postgres, namespace)
    async with connected(services, namespace) as connection:
        await connection.execute(
            """
            INSERT INTO generation (projection, number, schema_name, state) VALUES ('to_come', 1, 'to_come_1', 'live');
            INSERT INTO lease (handler, topic, partition) VALUES ('to_come_1', 'to_come', 0);
            """
        )
        assert {g.projection for g in await generations(connection)} == set(Projection)
        await leases.register_worker(connection, "old", "host", 1, "1.0")
        item = Leasable("h", RUNS)
        assert await leases.renew_leases(connection, "old", [item], []) == ({item}, [])
        assert await connection.fetchval("SELECT worker_id FROM lease WHERE topic = 'to_come'") is None


async def test_a_workers_partitions_are_free_as_soon_as_its_session_ends(services: Services, namespace: str) -> None:
    await migrate(services.postgres, namespace)
    work = [Leasable("h", Partition(Topic.RUNS, n)) for n in range(4)]
    async with connected(services, namespace) as one:
        await leases.register_worker(one, "one", "host", 1, "1.0")
        assert await leases.renew_leases(one, "one", work, []) == (set(work), [])
        async with connected(services, namespace) as two:
            await leases.register_worker(two, "two", "host", 2, "1.0")
            assert await leases.renew_leases(two, "two", work, []) == (set(), []), "nothing is taken from anybody"
            held, give = await leases.renew_leases(one, "one", work, [])
            assert (held, len(give)) == (set(work), 2)
            await leases.release_leases(one, "one", give)
            assert await leases.renew_leases(two, "two", work, []) == (set(give), [])
            # A worker that can't read a partition never gets it, and the other takes it up.
            await leases.release_leases(two, "two", give[:1])
            assert (await leases.renew_leases(two, "two", work, give[:1]))[0] == set(give[1:])
            assert (await leases.renew_leases(one, "one", work, []))[0] == {*work} - {give[1]}
        while await one.fetchval("SELECT count(*) FROM pg_stat_activity a JOIN worker w ON w.backend_pid = a.pid") > 1:
            await asyncio.sleep(0.01)
        assert await leases.renew_leases(one, "one", work, []) == (set(work), [])
        await one.execute("DELETE FROM worker WHERE worker_id = 'one'")
        with pytest.raises(ConnectionError, match="taken for dead"):
            await leases.renew_leases(one, "one", work, [])
