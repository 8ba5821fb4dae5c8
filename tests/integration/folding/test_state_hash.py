"""One log, one hash: whatever the interleaving of partitions, the batches and the crashes; and another hash for another
state.

A budget of examples, since each folds a log twice into real tables; RUNFOLD_SOAK makes it 10,000, and RUNFOLD_SEED
another set.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import cast

import pytest

from runfold_projections.catalog import COMMON_TABLES, canonical_tables, entities_of
from runfold_projections.control.migrations import migrate
from runfold_projections.core.canonical import Listing, Row
from runfold_projections.core.projection import Projection
from runfold_projections.folding.checkpoint import Checkpoint, load
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.generations.canonical_rows import canonical_rows
from runfold_projections.generations.comparison import RowDifference, differences
from runfold_projections.generations.state_hash import state_hash
from runfold_projections.model_metrics import model_blocks
from runfold_projections.postgres.connection import Connection, Pool, open_connection
from runfold_projections.segments.compaction import SegmentSource, compact_source
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import partition_count, partition_of
from tests.support.histories.generator import Scribe, history
from tests.support.services.running import Services

SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
EXAMPLES = 10_000 if SOAK else 60
SEED = int(os.environ.get("RUNFOLD_SEED") or 1)
PARTS = {projection: partition_count(projection.topic, 2) for projection in Projection}


@asynccontextmanager
async def emptied(services: Services, namespace: str, projection: Projection) -> AsyncIterator[Connection]:
    await migrate(services.postgres, namespace)
    schema = f"{namespace}_{projection.value}_1"
    async with open_connection(services.postgres, schema, application="test") as connection:
        await clear(connection, projection)
        yield connection


async def clear(connection: Connection, projection: Projection) -> None:
    own = [table for entity in entities_of(projection) for table in entity.tables]
    tables = [table.name for table in (*COMMON_TABLES, *own)]
    # TRUNCATE makes new files, twelve of them; most examples are a handful of rows.
    await connection.execute("; ".join(f"DELETE FROM {table}" for table in tables))  # noqa: S608 - names of ours


def split(projection: Projection, rng: Random, length: int) -> dict[Partition, list[Raw]]:
    """A generated log in as many partitions as its keys ask for, each with its genesis."""
    parts = PARTS.get(projection, 1)
    if parts == 1:
        return {Partition(projection.topic, 0): history(projection, rng, length)}
    scribes = [Scribe(Partition(projection.topic, number), parts) for number in range(parts)]
    for scribe in scribes:
        scribe.genesis()
    for raw in history(projection, rng, length)[1:]:
        if raw.key is None or not any(
            name == "ce_type" and not value.endswith(b"Genesis") for name, value in raw.headers
        ):
            continue
        scribe = scribes[partition_of(raw.key, parts)]
        scribe.log.append(replace(raw, position=Position(*scribe.where, len(scribe.log))))
    return {scribe.where: scribe.log for scribe in scribes}


async def apply(
    connection: Connection, fold: PartitionFold, parts: int, before: Checkpoint | None, raws: list[Raw]
) -> Checkpoint | None:
    return (await fold.apply(connection, before, decode_batch(raws, released_catalog(), parts, declared=()))).checkpoint


async def whole(connection: Connection, projection: Projection, log: dict[Partition, list[Raw]]) -> str:
    """Folded partition by partition, each as one batch."""
    for where, raws in log.items():
        fold = PartitionFold("hashes", projection, where, len(log))
        await apply(connection, fold, len(log), None, raws)
    return await hashed(connection, projection)


async def hashed(connection: Connection, projection: Projection) -> str:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await state_hash(connection, projection)


async def rows_of(connection: Connection, projection: Projection) -> list[tuple[str, Row]]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return [row async for row in canonical_rows(connection, projection)]


async def in_pieces(
    connection: Connection, projection: Projection, log: dict[Partition, list[Raw]], rng: Random
) -> str:
    """Folded in batches of any size, the partitions in any order, with workers that die between and begin again at the
    checkpoint.
    """
    folds = {where: PartitionFold("hashes", projection, where, len(log)) for where in log}
    at: dict[Partition, Checkpoint | None] = dict.fromkeys(log)
    while open_ones := [w for w, raws in log.items() if (c := at[w]) is None or c.next_offset < len(raws)]:
        where = rng.choice(open_ones)
        checkpoint = at[where]
        start = checkpoint.next_offset if checkpoint else 0
        at[where] = await apply(
            connection, folds[where], len(log), checkpoint, log[where][start : start + rng.randint(1, 20)]
        )
        happening = rng.randint(0, 4)
        if happening == 0:
            folds[where] = PartitionFold("hashes", projection, where, len(log))
            at[where] = await load(connection, where)
        elif happening == 1:
            folds[where].forget()
    return await hashed(connection, projection)


@pytest.mark.soak
@pytest.mark.timeout(300 if not SOAK else 7200)
@pytest.mark.parametrize("projection", list(Projection))
async def test_any_interleaving_batches_and_crashes_give_one_hash(
    services: Services, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with emptied(services, "hashes", projection) as connection:
        known: dict[str, int] = {}
        for number in range(EXAMPLES):
            rng = Random(f"{SEED} {projection} {number}")
            log = split(projection, rng, rng.randint(1, 60))
            expected = await whole(connection, projection, log)
            await clear(connection, projection)
            # What is measured of models lies in rows or in blocks, as many keys as a row has: that does not show
            # either.
            with monkeypatch.context() as patch:
                patch.setattr(model_blocks, "WIDE", rng.choice((1, 2, 3, 64)))
                got = await in_pieces(connection, projection, log, rng)
            if got != expected:
                pieces = await rows_of(connection, projection)
                await clear(connection, projection)
                await whole(connection, projection, log)
                pytest.fail(
                    f"RUNFOLD_SEED={SEED} example {number}: {set(pieces) ^ set(await rows_of(connection, projection))}"
                )
            await clear(connection, projection)
            known[expected] = number
        assert len(known) > EXAMPLES * 0.9, "other logs, other hashes"


@pytest.mark.parametrize("projection", list(Projection))
async def test_two_hashes_are_equal_exactly_if_the_canonical_rows_are(
    services: Services, projection: Projection
) -> None:
    async with emptied(services, "hashes", projection) as connection:
        seen: dict[str, list[tuple[str, Row]]] = {}
        for seed in range(12):
            log = split(projection, Random(seed), 25)
            for left_out in (0, 1, 2):
                shorter = {where: raws[: max(1, len(raws) - left_out)] for where, raws in log.items()}
                digest = await whole(connection, projection, shorter)
                rows = await rows_of(connection, projection)
                if digest in seen:
                    assert seen[digest] == rows
                seen[digest] = rows
                await clear(connection, projection)
        distinct = {repr(rows) for rows in seen.values()}
        assert len(distinct) == len(seen) > 12


async def test_how_points_are_packed_does_not_show_in_the_hash(services: Services) -> None:
    projection = Projection.METRICS
    async with emptied(services, "hashes", projection) as connection:
        log = split(projection, Random(3), 400)
        before = await in_pieces(connection, projection, log, Random(3))
        merged = 0
        for row in await connection.fetch("SELECT DISTINCT run_id, attempt, rank, branch, partition FROM segment"):
            source = SegmentSource(row["run_id"], row["attempt"], row["rank"], row["branch"])
            merged += await compact_source(cast(Pool, _Pool(connection)), row["partition"], source, quiet=True)
        assert merged > 0
        assert await hashed(connection, projection) == before


class _Pool:
    """One connection in the place of a pool."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.fetch = connection.fetch

    def acquire(self) -> "_Pool":
        return self

    async def __aenter__(self) -> Connection:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_every_table_that_holds_state_is_listed_by_a_unique_key(services: Services) -> None:
    for projection in Projection:
        async with emptied(services, "hashes", projection) as connection:
            views = {view for entity in entities_of(projection) for view in entity.views}
            for table, found in canonical_tables(projection):
                # A view is grouped by what it is listed by.
                if not isinstance(found, Listing) or table in views:
                    continue
                assert set(found.key) <= set(found.columns)
                async for row in _unique_indexes(connection, table):
                    if set(row) <= set(found.key):
                        break
                else:
                    # `ordinal` numbers what a run has: unique by its fold.
                    assert found.key[-1] in ("ordinal", "number"), table


async def _unique_indexes(connection: Connection, table: str) -> AsyncIterator[list[str]]:
    for row in await connection.fetch(
        """
        SELECT array_agg(a.attname::text) AS names FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = $1::text::regclass AND i.indisunique GROUP BY i.indexrelid
        """,
        table,
    ):
        yield row["names"]


@pytest.mark.parametrize("projection", list(Projection))
async def test_what_differs_between_two_generations_is_named_by_table_key_and_column(
    services: Services, projection: Projection
) -> None:
    """Against the canonical rows: no differing row is missed, and none is named that is equal."""
    async with (
        emptied(services, "hashes", projection) as one,
        emptied(services, "others", projection) as two,
    ):
        for seed in range(8):
            log = split(projection, Random(seed), 30)
            changed = {where: raws[: len(raws) - seed % 4] for where, raws in log.items()}
            await whole(one, projection, log)
            await whole(two, projection, changed)
            left, right = [{(table, repr(row)) for table, row in await rows_of(c, projection)} for c in (one, two)]
            found = await _differences(one, two, projection)
            tables = {table for table, _ in left ^ right}
            assert {difference.table for difference in found} == tables
            assert bool(found) == (left != right) == (seed % 4 > 0)
            gone = sum(1 for difference in found if difference.column is None and difference.new is None)
            assert gone <= len(left - right)
            assert all(difference.old != difference.new for difference in found)
            await clear(one, projection)
            await clear(two, projection)


async def _differences(one: Connection, two: Connection, projection: Projection) -> list[RowDifference]:
    async with (
        one.transaction(isolation="repeatable_read", readonly=True),
        two.transaction(isolation="repeatable_read", readonly=True),
    ):
        return [difference async for difference in differences(one, two, projection)]


async def test_a_changed_value_a_lost_row_and_a_new_one_are_told_apart(services: Services) -> None:
    projection = Projection.RUNS
    async with (
        emptied(services, "hashes", projection) as one,
        emptied(services, "others", projection) as two,
    ):
        for connection in (one, two):
            await connection.execute(
                "INSERT INTO run_tag VALUES ('r1', 'a', 'x'), ('r1', 'b', 'y'), ('r2', 'a', 'z'); "
                "INSERT INTO run_param VALUES ('r', 'k', 'v')"
            )
        await two.execute(
            "UPDATE run_tag SET value = 'new' WHERE run_id = 'r1' AND key = 'a'; "
            "DELETE FROM run_tag WHERE run_id = 'r2';"
            "INSERT INTO run_tag VALUES ('r0', 'ü', '1')"
        )
        found = [difference.as_json() for difference in await _differences(one, two, projection)]
        assert found == [
            {
                "table": "run_tag",
                "key": {"run_id": "r0", "key": "ü"},
                "column": None,
                "old": None,
                "new": {"value": "1"},
            },
            {"table": "run_tag", "key": {"run_id": "r1", "key": "a"}, "column": "value", "old": "x", "new": "new"},
            {
                "table": "run_tag",
                "key": {"run_id": "r2", "key": "a"},
                "column": None,
                "old": {"value": "z"},
                "new": None,
            },
        ]
