"""Merging changes how points lie, never which there are: whatever was cut, merged, broken off or done twice."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from runfold_projections.control.migrations import migrate
from runfold_projections.core.canonical import Row
from runfold_projections.core.errors import CompactionFailed, Fenced
from runfold_projections.core.projection import Projection
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.generations.canonical_rows import canonical_rows
from runfold_projections.postgres.connection import Connection, Pool, open_pool
from runfold_projections.segments import compacted_builder, compaction
from runfold_projections.segments import compaction_backlog as backlog_module
from runfold_projections.segments.compaction import SegmentSource, compact_segments, compact_source, plan_compaction
from runfold_projections.segments.compaction_backlog import CompactionBacklog
from runfold_projections.segments.compaction_process import CompactionProcess
from runfold_projections.segments.level0 import encode_level0
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from tests.support.histories.generator import history
from tests.support.installations.stopping import stop_process
from tests.support.services.running import Services

_numbers = itertools.count(1)
WHERE = Partition(Topic.METRICS, 0)
Rows = list[tuple[str, Row]]


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FAN_OUT", (3, 2, 2, 2))
    monkeypatch.setattr(backlog_module, "FAN_OUT", (3, 2, 2, 2))
    monkeypatch.setattr(compaction, "LEVELS", (15, 30, 60))
    monkeypatch.setattr(compacted_builder, "MOST_KEYS", 2)
    monkeypatch.setattr(compacted_builder, "LEAST_GRID", 3)


@asynccontextmanager
async def emptied(services: Services) -> AsyncIterator[Pool]:
    namespace = f"merging{next(_numbers)}"
    await migrate(services.postgres, namespace)
    async with open_pool(services.postgres, f"{namespace}_metrics_1", application="test") as pool:
        yield pool


async def rows_of(pool: Pool) -> Rows:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        return [row async for row in canonical_rows(connection, Projection.METRICS)]


async def apply(
    connection: Connection, fold: PartitionFold, before: Checkpoint | None, raws: Sequence[Raw]
) -> Checkpoint | None:
    return (await fold.apply(connection, before, decode_batch(raws, released_catalog(), 1, declared=()))).checkpoint


def new_fold() -> PartitionFold:
    return PartitionFold("merging", Projection.METRICS, WHERE, 1)


async def levels(pool: Pool) -> list[int]:
    return [row["level"] for row in await pool.fetch("SELECT level FROM segment ORDER BY level")]


async def due(pool: Pool) -> SegmentSource:
    backlog = CompactionBacklog()
    await backlog.load(pool, 0)
    return backlog.due()[0]


@pytest.mark.parametrize("seed", range(6))
async def test_merges_between_batches_change_no_row(
    services: Services, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = Random(seed)
    raws = history(Projection.METRICS, rng, 250)
    async with emptied(services) as plain, emptied(services) as merged:
        async with plain.acquire() as connection:
            await apply(connection, new_fold(), None, raws)
        fold, checkpoint = new_fold(), None
        assert fold.compaction is not None
        async with merged.acquire() as connection:
            while (at := checkpoint.next_offset if checkpoint else 0) < len(raws):
                checkpoint = await apply(connection, fold, checkpoint, raws[at : at + rng.randint(1, 4)])
                monkeypatch.setattr(backlog_module, "QUIET_SECONDS", rng.choice([-1.0, 60.0, 60.0]))
                await fold.compaction.step(merged, busy=rng.random() < 0.3)
                if rng.random() < 0.1 and at < len(raws) // 2:
                    fold.forget()
            assert await rows_of(merged) == await rows_of(plain)
            assert max(await levels(merged)) > 2, "what was merged is merged again"
            monkeypatch.setattr(compaction, "QUIET_RATIO", 10**9)
            for row in await merged.fetch("SELECT DISTINCT run_id, attempt, rank, branch FROM segment"):
                await compact_source(merged, 0, SegmentSource(*row), quiet=True)
        assert not await merged.fetch(
            "SELECT FROM segment GROUP BY run_id, attempt, rank, branch HAVING count(DISTINCT first_offset) > 1"
        ), "a quiet source is one merge's packs"
        assert await rows_of(merged) == await rows_of(plain)


async def test_of_two_that_merge_the_same_segments_one_does_and_the_other_changes_nothing(services: Services) -> None:
    raws = history(Projection.METRICS, Random(1), 90)
    async with emptied(services) as pool:
        async with pool.acquire() as connection:
            fold, checkpoint = new_fold(), None
            for raw in raws:
                checkpoint = await apply(connection, fold, checkpoint, [raw])
        before = await rows_of(pool)
        source = await due(pool)

        async def merge() -> int:
            return await compact_source(pool, 0, source, quiet=True)

        results = await asyncio.gather(merge(), merge(), merge(), return_exceptions=True)
        merged = [n for n in results if isinstance(n, int) and n]
        assert len(merged) == 1
        assert all(isinstance(other, Fenced) or other == 0 for other in results if other not in merged)
        assert await rows_of(pool) == before


async def test_a_merge_that_is_cancelled_leaves_everything_as_it_was(services: Services) -> None:
    raws = history(Projection.METRICS, Random(2), 90)
    async with emptied(services) as pool:
        async with pool.acquire() as connection:
            fold, checkpoint = new_fold(), None
            for raw in raws:
                checkpoint = await apply(connection, fold, checkpoint, [raw])
        before, count = await rows_of(pool), len(await levels(pool))
        source = await due(pool)
        for pause in (0.0, 0.001, 0.002, 0.004):
            merge = asyncio.create_task(compact_source(pool, 0, source, quiet=True))
            await asyncio.sleep(pause)
            merge.cancel()
            await asyncio.gather(merge, return_exceptions=True)
            assert await rows_of(pool) == before
            assert len(await levels(pool)) <= count


FRESH = [(0, n, 5) for n in range(5, 8)]


@pytest.mark.parametrize(
    ("segments", "quiet", "chosen"),
    [
        (FRESH, False, (1, 1)),
        (FRESH, True, (5, 1)),
        ([(0, 9, 5)], True, None),
        ([(0, 9, 5), (1, 1, 40)], True, (5, 1)),
        ([(0, 9, 5), (1, 1, 41)], True, None),
        ([*FRESH, (1, 1, 600), (1, 2, 500)], False, (2, 2)),
        ([*FRESH, (1, 1, 600), (1, 2, 500), (2, 0, 9000)], False, (3, 3)),
        ([(1, 1, 50), (1, 1, 50)], True, None),
        ([*FRESH, (1, 1, 3_999_990)], False, (1, 1)),
    ],
    ids=["fresh", "all", "alone", "small", "not worth it", "full", "cascade", "one merge's packs", "too many points"],
)
def test_what_is_merged_is_what_is_full_or_worth_it_in_a_quiet_source(
    monkeypatch: pytest.MonkeyPatch, segments: list[tuple[int, int, int]], quiet: bool, chosen: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(compaction, "FAN_OUT", (3, 3, 2, 2))
    monkeypatch.setattr(compaction, "LEVELS", (1000, 10_000, 100_000))
    assert plan_compaction((compaction.SegmentSize(*segment) for segment in segments), quiet=quiet) == chosen


def test_a_backlog_counts_what_lies_beyond_the_usual_number(monkeypatch: pytest.MonkeyPatch) -> None:
    backlog, one, other = CompactionBacklog(), SegmentSource("r", "", -1), SegmentSource("r", "", 0)
    for _ in range(2):
        backlog.add(one)
    assert (backlog.segments, backlog.due()) == (0, [])
    backlog.add(one)
    backlog.add(other, 7)
    assert (backlog.segments, backlog.due(), backlog.due(2.0)) == (6, [other, one], [other])
    assert list(backlog.quiet()) == []
    monkeypatch.setattr(backlog_module, "QUIET_SECONDS", -1.0)
    assert list(backlog.quiet()) == [one, other]
    late = time.monotonic() + 1
    backlog.subtract(other, 7, late)
    assert (backlog.segments, backlog.due(), list(backlog.quiet())) == (1, [one], [one, other])
    backlog.remove(other, late)
    assert list(backlog.quiet()) == [one]


def test_what_comes_while_a_source_is_merged_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "QUIET_SECONDS", -1.0)
    backlog, source = CompactionBacklog(), SegmentSource("r", "", -1)
    backlog.add(source, 5)
    before = time.monotonic()
    backlog.add(source, 4)
    backlog.subtract(source, 5, before)
    assert backlog.due() == [source], "four are left"
    backlog.remove(source, before)
    assert list(backlog.quiet()) == [source]


async def test_a_process_builds_the_packs_that_a_thread_builds_and_is_replaced_when_it_dies() -> None:
    points = [[Point(key, n / 7, n, 1) for key in "ab"] for n in range(20)]
    segments = [(0, encode_level0(list(from_points(some)))) for some in points]
    async with CompactionProcess() as process:
        assert process.pid is None, "nothing to do, no process"
        built = await process.build(segments)
        assert built == compact_segments(segments)
        with pytest.raises(CompactionFailed, match="1 segments can't be compacted"):
            await process.build([(0, b"not a segment")])
        assert process.pid is not None
        # Stopped, so that it can't have answered before it is killed.
        stop_process(process.pid)
        asking = asyncio.create_task(process.build(segments))
        await asyncio.sleep(0)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(CompactionFailed, match="has died"):
            await asking
        assert await process.build(segments) == built
