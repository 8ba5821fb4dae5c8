"""Many series at once, whether their segments are fetched whole or in slices."""

from array import array
from collections.abc import AsyncIterator
from random import Random
from uuid import UUID

import pytest

from runfold_projections.postgres.connection import Connection, open_connection
from runfold_projections.segments import compacted_builder
from runfold_projections.segments.compacted_builder import build_segments
from runfold_projections.segments.level0 import encode_level0
from runfold_projections.series import points as series
from runfold_projections.series.points import read_series
from runfold_schemas.events.frames import Frame
from tests.support.services.postgres import Namespace, namespace, postgres_dsn

__all__ = ["namespace", "postgres_dsn"]

KEYS = tuple(f"k{n:03}" for n in range(40))
Points = dict[tuple[str, str], list[tuple[int, int, float]]]


@pytest.fixture
async def connection(namespace: Namespace) -> AsyncIterator[Connection]:
    async with (
        open_connection(namespace.dsn, namespace.name, application="test") as connection,
        connection.transaction(),
    ):
        for run_id in ("r1", "r2"):
            await connection.execute(
                "INSERT INTO run VALUES ($1, 0, 1, 'n', 'u', 'RUNNING', 1, NULL, 'active', NULL, 'a', $2)",
                run_id,
                UUID(int=1),
            )
        yield connection


def frame(rng: Random, rows: int) -> Frame:
    keys = tuple(rng.sample(KEYS, rng.randint(1, len(KEYS))))
    steps = array("q", [rng.randint(0, 10**6) for _ in range(rows)])
    return Frame(keys, steps, steps, array("d", [rng.random() for _ in range(rows * len(keys))]))


async def insert(connection: Connection, run_id: str, offset: int, frames: list[Frame], *, merged: bool) -> None:
    keys = {key for one in frames for key in one.keys}
    rows = (
        [(p.first_key, p.last_key, p.points, p.head, p.data) for p in build_segments(frames)]
        if merged
        else [(min(keys), max(keys), 0, 0, encode_level0(frames))]
    )
    for first, last, points, head, data in rows:
        await connection.execute(
            """
            INSERT INTO segment (run_id, first_offset, attempt, rank, branch, first_key, last_key, level, last_offset,
                first_step,
                                 last_step, partition, points, head, data)
            VALUES ($1, $2, '', 0, 0, $3, $4, $5, $2, 0, 1000000, 0, $6, $7, $8)
            """,
            *(run_id, offset, first, last, int(merged), points, head, data),
        )


def logged(frames: list[Frame], run_id: str, into: Points) -> None:
    for one in frames:
        for column, key in enumerate(one.keys):
            values = one.values[column :: len(one.keys)]
            into.setdefault((run_id, key), []).extend(zip(one.steps, one.times, values, strict=True))


@pytest.mark.parametrize("whole_bytes", [0, 500, 10**9])
async def test_every_point_of_the_series_asked_for_is_read_and_no_other(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(series, "WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(compacted_builder, "MOST_KEYS", 16)
    monkeypatch.setattr(compacted_builder, "CHUNK_BYTES", 400)
    rng, all_points = Random(whole_bytes), dict[tuple[str, str], list[tuple[int, int, float]]]()
    for offset in range(6):
        for run_id in ("r1", "r2", "unknown"):
            frames = [frame(rng, rng.choice([1, 3, 60])) for _ in range(3)]
            await insert(connection, run_id, offset, frames, merged=offset < 4)
            if run_id != "unknown":
                logged(frames, run_id, all_points)
    wanted = [*rng.sample(KEYS, 5), "absent", "nul\x00"]
    found = await read_series(connection, ["r2", "r1", "unknown", "r1"], wanted)
    read = {
        name: sorted(
            point
            for _, rank, _, (steps, times, values) in pieces
            for point in zip(steps.tolist(), times.tolist(), values.tolist(), strict=True)
            if rank == 0
        )
        for name, pieces in found.items()
    }
    assert read == {name: sorted(points) for name, points in all_points.items() if name[1] in wanted}
