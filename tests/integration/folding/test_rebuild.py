"""Rebuilding beside the live generation: compared at one vector, switched at once, gone back from; whatever is broken
off is gone on with.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runfold_projections.core.errors import Busy, NoSuchGeneration
from runfold_projections.core.projection import Projection
from runfold_projections.generations import rebuild as module
from runfold_projections.generations.comparison import RowDifference
from runfold_projections.generations.generations import generations
from runfold_projections.generations.inventory import inventory
from runfold_projections.generations.rebuild import (
    ComparisonResult,
    Phase,
    Rebuild,
    RebuildProgress,
    drop_expired,
    rebuilding,
)
from runfold_projections.generations.state_hash import state_hash
from runfold_projections.postgres.connection import Connection, open_connection
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import append, fetch, folded, outgoing, sender, until, working
from tests.support.installations.installation import Installation


@asynccontextmanager
async def control(installation: Installation) -> AsyncIterator[Connection]:
    async with open_connection(
        installation.services.postgres, installation.namespace, application="test"
    ) as connection:
        yield connection


def work_on(installation: Installation, projection: Projection = Projection.RUNS, tell=lambda _: None):  # type: ignore[no-untyped-def]
    return rebuilding(installation.services.postgres, installation.namespace, projection, tell, patience=30)


async def states(installation: Installation, projection: Projection = Projection.RUNS) -> dict[int, str]:
    async with control(installation) as connection:
        return {g.number: g.state for g in await generations(connection) if g.projection is projection}


async def rebuilt(work: Rebuild, found: list[RowDifference] | None = None) -> ComparisonResult:
    generation = await work.begin()
    await work.build(generation)
    compared = await work.compare(generation, (found if found is not None else []).append)
    await work.switch(generation)
    return compared


def created(number: int) -> RunCreated:
    return RunCreated(run_id=f"r{number}", experiment_id=0, name=f"n{number}", start_ms=number, artifact_uri="s3://b/0")


async def write(installation: Installation, raw, count: int, first: int = 0):  # type: ignore[no-untyped-def]
    records = []
    for number in range(first, first + count):
        records.append(outgoing(Topic.RUNS, created(number), writer=f"w{number}", sequence=0))
        records.append(
            outgoing(Topic.RUNS, ParamsLogged(run_id=f"r{number}", params={"k": "v"}), writer=f"w{number}", sequence=1)
        )
    return await append(installation, raw, records)


async def test_a_rebuild_compares_switches_and_keeps_the_earlier_generation_folded_for_the_way_back(
    installation: Installation,
) -> None:
    told: list[RebuildProgress] = []
    async with sender(installation) as raw, working(installation):
        await folded(installation, await write(installation, raw, 30))
        async with work_on(installation, tell=told.append) as work:
            compared = await rebuilt(work)
        assert (compared.differences, compared.outcomes) == (0, 0)
        assert sum(compared.vector.values()) == 2 + 60
        assert await states(installation) == {1: "standby", 2: "live"}
        assert {one.phase for one in told} >= {Phase.REPLAY, Phase.HOLD, Phase.COMPARE, Phase.CATCH_UP}

        # What is written now reaches both; going back shows it at once.
        await folded(installation, await write(installation, raw, 10, first=30))
        async with work_on(installation) as work:
            assert (await work.standby()).number == 1
            await work.switch(await work.standby())
        assert await states(installation) == {1: "live", 2: "standby"}
        await folded(installation, await write(installation, raw, 5, first=40))
        assert len(await fetch(installation, "SELECT run_id FROM run")) == 45

        # The next rebuild keeps only what it replaced.
        async with work_on(installation) as work:
            await rebuilt(work)
        assert await states(installation) == {1: "standby", 3: "live"}
        async with control(installation) as connection:
            left = await connection.fetch(
                "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, $1) ORDER BY 1",
                f"{installation.namespace}_runs_",
            )
        assert [row[0] for row in left] == [f"{installation.namespace}_runs_{number}" for number in (1, 3)]


async def test_a_comparison_is_exact_while_writes_go_on(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARD", 1.2)
    stop = asyncio.Event()

    async def keep_writing(raw) -> int:  # type: ignore[no-untyped-def]
        number = 0
        while not stop.is_set():
            await write(installation, raw, 5, first=number)
            number += 5
            await asyncio.sleep(0.01)
        return number

    async with sender(installation) as raw, working(installation), asyncio.TaskGroup() as group:
        writing = group.create_task(keep_writing(raw))
        try:
            await until("something is folded", lambda: not writing.done())
            vectors = []
            for _ in range(2):
                async with work_on(installation) as work:
                    compared = await rebuilt(work)
                assert compared.differences == 0
                vectors.append(sum(compared.vector.values()))
        finally:
            stop.set()
        runs = await writing
        assert vectors[0] < vectors[1]
        await installation.settled()
        assert len(await fetch(installation, "SELECT run_id FROM run")) == runs


async def test_rows_that_would_change_are_named_and_outcomes_counted(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation):
        positions = await write(installation, raw, 3)
        positions += await append(
            installation,
            raw,
            [outgoing(Topic.RUNS, ParamsLogged(run_id="r0", params={"k": "other"}), writer="late")],
        )
        await folded(installation, positions)
        async with open_connection(
            installation.services.postgres, f"{installation.namespace}_runs_1", application="test"
        ) as live:
            # As if older code had folded otherwise.
            await live.execute("UPDATE run_param SET value = 'old' WHERE run_id = 'r1'; DELETE FROM rejection")
        found: list[RowDifference] = []
        async with work_on(installation) as work:
            generation = await work.begin()
            await work.build(generation)
            compared = await work.compare(generation, found.append)
            await work.drop(generation)
        assert (compared.differences, compared.outcomes) == (2, 1)
        by_table = {difference.table: difference for difference in found}
        changed = by_table["run_param"]
        assert (changed.column, changed.old, changed.new) == ("value", "old", "v")
        assert (by_table["rejection"].old, by_table["rejection"].column) == (None, None)
        assert await states(installation) == {1: "live"}


async def test_a_rebuild_that_was_broken_off_is_gone_on_with_and_one_of_other_code_is_begun_anew(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sender(installation) as raw, working(installation):
        await folded(installation, await write(installation, raw, 5))
        async with work_on(installation) as work:
            first = await work.begin()
        async with work_on(installation) as work:
            assert (await work.begin()).number == first.number
            # Broken off while it is held: the bound is lifted by whoever goes on.
            async with control(installation) as connection:
                await connection.execute("UPDATE generation SET until = '{1,1}' WHERE number = 2")
            assert (await work.begin()).number == first.number
            assert await states(installation) == {1: "live", 2: "building"}
            monkeypatch.setattr(module, "fingerprint", lambda: "other code")
            assert (await work.begin()).number == 3
            assert await states(installation) == {1: "live", 3: "building"}
            assert (await rebuilt(work)).differences == 0


async def test_two_rebuilds_of_one_projection_do_not_meet(installation: Installation) -> None:
    async with work_on(installation), work_on(installation, Projection.METRICS):
        with pytest.raises(Busy, match="another process rebuilds it"):
            async with work_on(installation):
                pass
        async with work_on(installation, Projection.EXPERIMENTS) as work:
            with pytest.raises(NoSuchGeneration, match="no earlier generation is kept"):
                await work.standby()


async def test_a_switch_waits_for_readers_and_lets_others_pass_meanwhile(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation):
        await folded(installation, await write(installation, raw, 5))
        async with work_on(installation) as work:
            generation = await work.begin()
            await work.build(generation)
            async with control(installation) as slow, slow.transaction(isolation="repeatable_read"):
                assert await slow.fetchval("SELECT count(*) FROM run") == 5
                switching = asyncio.create_task(work.switch(generation))
                for _ in range(20):
                    assert len(await fetch(installation, "SELECT run_id FROM run")) == 5
                    await asyncio.sleep(0.1)
                assert not switching.done()
                assert (await states(installation))[2] == "building"
                assert await slow.fetchval("SELECT count(*) FROM run") == 5
            await switching
        assert await states(installation) == {1: "standby", 2: "live"}


async def test_generations_are_listed_with_vector_and_size(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation):
        await folded(installation, await write(installation, raw, 5))
        async with control(installation) as connection:
            entries = {entry.generation.projection: entry for entry in await inventory(connection)}
        assert set(entries) == set(Projection)
        shown = entries[Projection.RUNS].as_json()
        assert (shown["number"], shown["state"], shown["snapshot"]) == (1, "live", None)
        assert shown["bytes"] > 0
        assert sum(entries[Projection.RUNS].checkpoints.values()) == 12


async def test_state_hashes_of_a_replay_are_those_of_the_live_generations(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation):
        await folded(installation, await write(installation, raw, 20))
        schemas: dict[Projection, Any] = {}
        await installation.replayed()
        async with control(installation) as connection:
            for entry in await inventory(connection):
                schemas.setdefault(entry.generation.projection, []).append(entry.generation.schema_name)
        for projection, names in schemas.items():
            found = set()
            for name in names:
                async with (
                    open_connection(installation.services.postgres, name, application="test") as connection,
                    connection.transaction(isolation="repeatable_read", readonly=True),
                ):
                    found.add(await state_hash(connection, projection))
            assert len(names) == 2
            assert len(found) == 1


async def test_a_standby_goes_when_its_time_is_over_or_when_somebody_drops_it(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation):
        await folded(installation, await write(installation, raw, 5))
        async with work_on(installation) as work:
            await rebuilt(work)
        async with control(installation) as connection:
            assert await drop_expired(connection, 3600) == []
            assert await drop_expired(connection, 0) == [f"{installation.namespace}_runs_1"]
            assert await connection.fetchval("SELECT to_regnamespace($1) IS NULL", f"{installation.namespace}_runs_1")
            assert await connection.fetchval("SELECT count(*) FROM lease WHERE handler LIKE '%runs_1'") == 0
        # The worker, which held it, goes on with the rest.
        await folded(installation, await write(installation, raw, 5, first=5))
        assert await states(installation) == {2: "live"}
