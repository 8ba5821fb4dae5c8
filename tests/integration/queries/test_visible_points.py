"""What a run shows, over forks of forks, cuts and older branches: the read of tables against sets of points."""

from __future__ import annotations

import itertools
import math
from random import Random
from typing import Any
from uuid import UUID

import pytest

from runfold_projections.control.migrations import migrate
from runfold_projections.core.projection import Projection
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.postgres.connection import Connection, open_connection, open_pool
from runfold_projections.segments.compaction import SegmentSource, compact_source
from runfold_projections.series.branch_overview import read_branch_overview
from runfold_projections.series.fork_summaries import inherited_summaries, join_summaries, latest_of_forked, own_blocks
from runfold_projections.series.keys import KeyFilter, keys_of_run, keys_of_runs
from runfold_projections.series.latest import history_mark
from runfold_projections.series.points import read_series
from runfold_projections.series.visible_points import BranchChoice, read_visible_runs
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.positions.position import Partition
from tests.support.histories.generator import KEYS, RUNS, cut, history
from tests.support.histories.visible_points import EXISTING, Point, Told, shown, told_by
from tests.support.services.running import Services

_numbers = itertools.count(1)


@pytest.mark.parametrize("seed", range(8))
async def test_a_run_shows_its_own_points_and_what_it_inherits(services: Services, seed: int) -> None:
    rng = Random(seed)
    raws = history(Projection.METRICS, rng, 250)
    namespace = f"lines{next(_numbers)}"
    await migrate(services.postgres, namespace)
    async with open_pool(services.postgres, f"{namespace}_metrics_1", application="test") as pool:
        fold, checkpoint = PartitionFold(namespace, Projection.METRICS, Partition(Projection.METRICS.topic, 0), 1), None
        async with pool.acquire() as connection:
            for batch in cut(rng, raws, 20):
                decoded = decode_batch(batch, released_catalog(), 1, declared=())
                checkpoint = (await fold.apply(connection, checkpoint, decoded)).checkpoint
        for row in await pool.fetch("SELECT DISTINCT run_id, attempt, rank, branch FROM segment"):
            if rng.random() < 0.5:
                await compact_source(pool, 0, SegmentSource(*row), quiet=True)
    runs = told_by(raws)
    async with open_connection(services.postgres, namespace, application="test") as connection:
        for run_id in EXISTING:
            await connection.execute(
                "INSERT INTO run VALUES ($1, 0, 1, 'n', 'u', 'RUNNING', 1, NULL, 'active', NULL, 'a', $2)",
                *(run_id, UUID(int=1)),
            )
        whichs: list[BranchChoice] = [
            "effective",
            "all",
            0,
            *range(1, max(told.lineage.last for told in runs.values()), 3),
        ]
        for which in whichs:
            lines = await read_visible_runs(connection, RUNS, which)
            found = await read_series(connection, RUNS, KEYS, lines)
            assert {run_id: _points(found, run_id) for run_id in RUNS} == {
                run_id: shown(runs, run_id, which) for run_id in RUNS
            }
        assert await _summaries(connection) == {
            run_id: _modelled(shown(runs, run_id, "effective")) for run_id in EXISTING
        }
        for run_id in EXISTING:
            told = await read_branch_overview(connection, run_id, 1000, 0)
            assert told is not None
            assert told.newest == runs[run_id].lineage.last
        assert any(told.fork for told in runs.values())
        await _marks_follow(connection, runs)


async def _summaries(connection: Connection) -> dict[str, Any]:
    """Latest, least and greatest value per key of each run, twice the same: what was read may be kept."""
    found: list[dict[str, Any]] = []
    for _ in range(2):
        more = await inherited_summaries(connection, EXISTING)
        both = {run_id: join_summaries(await own_blocks(connection, run_id), more.get(run_id)) for run_id in EXISTING}
        found.append(
            {
                run_id: {
                    key: (one.latest.step, one.latest.time_ms, one.latest.value.hex(), one.least, one.most)
                    for key, one in own.items()
                }
                for run_id, own in both.items()
            }
        )
    assert found[0] == found[1]
    keys = {key for own in found[0].values() for key in own}
    latest = await latest_of_forked(connection, EXISTING, sorted(keys))
    expected = {(run_id, key): own[2] for run_id in more for key, own in found[0][run_id].items()}
    assert {at: value.hex() for at, value in latest.items()} == expected
    for run_id in EXISTING:
        page = await keys_of_run(connection, run_id, KeyFilter("", None, "", 1000))
        assert page is not None
        assert [(one.key, one.step, one.value.hex(), one.least, one.most) for one in page.keys] == [
            (key, own[0], *own[2:]) for key, own in sorted(found[0][run_id].items())
        ]
        assert set(await keys_of_runs(connection, [run_id], "", 1000)) == found[0][run_id].keys()
    return found[0]


def _modelled(points: set[Point]) -> dict[str, Any]:
    by_key: dict[str, list[tuple[int, int, float]]] = {}
    for key, _, step, time, text in points:
        by_key.setdefault(key, []).append((step, time, float.fromhex(text)))

    def order(point: tuple[int, int, float]) -> tuple[Any, ...]:
        step, time, value = point
        nan = math.isnan(value)
        return step, time, 0.0 if nan else value, nan, math.copysign(1, value)

    found = {}
    for key, own in by_key.items():
        step, time, value = max(own, key=order)
        numbers = [value for _, _, value in own if not math.isnan(value)]
        found[key] = (step, time, value.hex(), min(numbers, default=None), max(numbers, default=None))
    return found


async def _marks_follow(connection: Connection, runs: dict[str, Told]) -> None:
    """A remembered history is read anew when it, or one that it inherits from, is cut."""
    before = {run_id: await history_mark(connection, run_id) for run_id in EXISTING}
    await connection.execute("INSERT INTO cut VALUES ('r0', 1000000, 0, NULL, 0, true, 'w', 0, 1000, $1)", UUID(int=1))
    changed = {run_id for run_id in EXISTING if await history_mark(connection, run_id) != before[run_id]}
    heirs: set[str] = set()
    more = {"r0"}
    while more - heirs:
        heirs |= more
        more = {run_id for run_id, told in runs.items() if told.fork and told.fork.parent_run_id in heirs}
    assert changed == heirs & set(EXISTING)


def _points(found: Any, run_id: str) -> set[Point]:
    return {
        (key, piece.rank, step, time, value.hex())
        for (of, key), pieces in found.items()
        if of == run_id
        for piece in pieces
        for step, time, value in zip(*(column.tolist() for column in piece.columns), strict=True)
    }
