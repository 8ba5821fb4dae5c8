"""Histories out of packed segments."""

import math
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from runfold_projections.postgres.connection import Connection, open_connection
from runfold_projections.segments.level0 import encode_level0
from runfold_projections.series.latest import history
from runfold_schemas.events.frames import Point, from_points
from runfold_server.caches.history_cache import Histories
from tests.support.services.postgres import Namespace, namespace, postgres_dsn

__all__ = ["namespace", "postgres_dsn"]

NAN = math.nan


@pytest.fixture
async def connection(namespace: Namespace) -> AsyncIterator[Connection]:
    async with (
        open_connection(namespace.dsn, namespace.name, application="test") as connection,
        connection.transaction(),
    ):
        await connection.execute(
            "INSERT INTO run VALUES ('known', 0, 1, 'n', 'u', 'RUNNING', 1, NULL, 'active', NULL, 'a', $1)", UUID(int=1)
        )
        yield connection


async def insert(
    connection: Connection, run_id: str, offset: int, points: list[Point], attempt: str = "", rank: int = -1
) -> None:
    await connection.execute(
        """
        INSERT INTO segment (run_id, first_offset, attempt, rank, branch, first_key, last_key, level, last_offset,
            first_step,
                             last_step, partition, points, head, data)
        VALUES ($1, $2, $3, $4, 0, $5, $6, 0, $2, $7, $8, 0, $9, 0, $10)
        """,
        *(run_id, offset, attempt, rank, min(p.key for p in points), max(p.key for p in points)),
        *(min(p.step for p in points), max(p.step for p in points)),
        *(len(points), encode_level0(from_points(points))),
    )


async def points_of(connection: Connection, run_id: str, key: str) -> list[tuple[int, int, str]]:
    found = await history(connection, run_id, key)
    return [
        (step, time, str(value))
        for step, time, value in zip(found.steps.tolist(), found.times.tolist(), found.values.tolist(), strict=True)
    ]


async def test_a_history_is_ordered_by_time_step_and_value_and_each_point_is_there_once(connection: Connection) -> None:
    # The same numbers as in MLflow's recorded answers, with NaN and an infinity beside.
    await insert(connection, "known", 5, [Point("m", 1.5, 0, 5), Point("m", 7.0, 4, 1), Point("other", 1.0, 0, 0)])
    await insert(connection, "known", 9, [Point("m", 9.5, 0, 1), Point("m", 7.0, -4, 0), Point("m", 1.5, 0, 5)])
    await insert(connection, "known", 9, [Point("m", 7.0, 4, 1), Point("m", NAN, 0, 1)], attempt="a2", rank=1)
    await insert(connection, "known", 11, [Point("m", NAN, 0, 1), Point("m", -math.inf, 0, 1), Point("m", 1.0, 0, 1)])
    assert await points_of(connection, "known", "m") == [
        (-4, 0, "7.0"),
        (0, 1, "-inf"),
        (0, 1, "nan"),
        (0, 1, "1.0"),
        (0, 1, "9.5"),
        (4, 1, "7.0"),
        (0, 5, "1.5"),
    ]


async def test_a_history_may_have_more_segments_than_are_fetched_at_once(connection: Connection) -> None:
    for offset in range(150):
        await insert(connection, "known", offset, [Point("m", float(offset), offset, offset)])
    found = await history(connection, "known", "m")
    assert found.steps.tolist() == list(range(150))


async def test_metrics_of_an_unknown_run_are_invisible(connection: Connection) -> None:
    await insert(connection, "unknown", 1, [Point("m", 1.0, 0, 0)])
    assert len(await history(connection, "unknown", "m")) == 0


async def test_an_unknown_key_has_an_empty_history(connection: Connection) -> None:
    await insert(connection, "known", 1, [Point("m", 1.0, 0, 0)])
    for key in ("n", "a\0b", "\ud800"):
        found = await history(connection, "known", key)
        assert (len(found), found.steps.dtype, found.values.dtype) == (0, "int64", "float64")


async def test_remembered_histories_show_what_came_since_and_stay_within_their_bytes(connection: Connection) -> None:
    histories = Histories(max_bytes=5000)
    await insert(connection, "known", 1, [Point(key, 1.0, 1, 1) for key in "ab"])
    first = await histories.read(connection, "known", "a")
    assert await histories.read(connection, "known", "a") is first, "the next page does not read it again"
    await insert(connection, "known", 2, [Point("a", 2.0, 2, 2)])
    assert (await histories.read(connection, "known", "a")).values.tolist() == [1.0, 2.0]
    # A second source at the same offset: neither the count of offsets nor the largest one tells of it alone.
    await insert(connection, "known", 2, [Point("a", 3.0, 3, 3)], rank=1)
    assert (await histories.read(connection, "known", "a")).values.tolist() == [1.0, 2.0, 3.0]

    kept = await histories.read(connection, "known", "a")
    for n in range(10):
        await histories.read(connection, "known", f"none{n}")
    assert await histories.read(connection, "known", "a") is not kept, "the oldest made room"
    await insert(connection, "known", 3, [Point("wide", float(n), n, n) for n in range(1000)])
    wide = await histories.read(connection, "known", "wide")
    assert len(wide) == 1000
    assert await histories.read(connection, "known", "wide") is not wide, "what is larger than all is not kept"
