"""A full disk: clear errors, a program that waits visibly, and every acknowledged write after space returns."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runfold_log.admin import create_log
from runfold_log.errors import LogUnavailable
from runfold_log.topics import LogSettings
from runfold_log.writer import LogWriter
from runfold_projections.control.migrations import migrate
from runfold_projections.postgres.connection import open_pool
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_stack.embedded import embedded_stack
from runfold_stack.supervision.supervisor import PartState
from tests.support.installations.in_process import until, working
from tests.support.installations.installation import Installation, difference
from tests.support.services.running import Services
from tests.support.services.small_disk import Ballast, small_disk

NAMESPACE = "disk"
RUN = RunCreated(run_id="r", experiment_id=0, name="r", start_ms=1, artifact_uri="u")


@dataclass
class World:
    """An installation on services of its own, one of which lies on the small disk."""

    installation: Installation
    writer: LogWriter
    ballast: Ballast
    told: list[str] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    points: set[int] = field(default_factory=set)

    async def param(self, n: int) -> None:
        """Append one param, and remember it once it is acknowledged."""
        key, value = f"p{n}", f"{n}" + "x" * 2000
        await self.writer.append(ParamsLogged(run_id="r", params={key: value}))
        self.acknowledged[key] = value

    async def metric(self, n: int, rows: int = 2000) -> None:
        """Append a block of points, and remember it once it is acknowledged."""
        points = [Point(f"k{n}", n + i * 1.37**0.5, i, 1000 + i) for i in range(rows)]
        await self.writer.append(MetricsLogged("r", from_points(points)))
        self.points.add(n)

    async def check(self) -> None:
        """Everything acknowledged is folded once, and a replay says the same."""
        await self.installation.settled()
        async with open_pool(self.installation.services.postgres, NAMESPACE, application="test") as pool:
            params = dict(await pool.fetch("SELECT key, value FROM run_param"))
            keys = {row["key"] for row in await pool.fetch("SELECT unnest(keys) AS key FROM metric_block")}
        assert {key: params.get(key) for key in self.acknowledged} == self.acknowledged
        assert {f"k{n}" for n in self.points} <= keys
        assert difference(await self.installation.rows(), await self.installation.replayed()) == ""


@asynccontextmanager
async def _world(directory: Path, disk: Path, full: str) -> AsyncIterator[World]:
    told: list[str] = []

    def progress(part: str, state: PartState, detail: str) -> None:
        told.append(f"{part} {state} {detail}")

    where = {f"{full}_dir": disk / full}
    async with embedded_stack(directory / "data", s3=False, on_progress=progress, **where) as stack:  # type: ignore[arg-type]
        kafka, postgres = stack.endpoints.kafka, stack.endpoints.postgres
        assert kafka is not None
        assert postgres is not None
        info = await create_log(kafka, NAMESPACE, LogSettings(partitions=2), release="test")
        await migrate(postgres, NAMESPACE)
        services = Services(kafka, postgres, None, stack, asyncio.get_running_loop())
        with ExitStack() as exits:
            installation = Installation(services, NAMESPACE, info, directory, exits)
            async with LogWriter(kafka, NAMESPACE, timeout=3) as writer:
                await writer.append(RUN)
                yield World(installation, writer, Ballast(disk), told)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 160) as mounted:
        yield mounted


async def test_kafkas_disk_is_full_appends_are_refused_and_nothing_acknowledged_is_lost(
    tmp_path: Path, disk: Path
) -> None:
    async with _world(tmp_path, disk, "kafka") as world, working(world.installation):
        for n in range(50):
            await world.param(n)
        world.ballast.fill()
        refused = []
        for n in range(50, 400):
            try:
                await world.param(n)
            except LogUnavailable as error:
                refused.append(error)
                if len(refused) >= 3:
                    break
        assert len(refused) >= 3, "the disk did not get full"
        assert all(error.retry_after > 0 for error in refused)
        assert any("not acknowledged" in str(error) or "does not answer" in str(error) for error in refused)
        await until(
            "the supervisor names the full disk",
            lambda: any("full" in line or "left" in line for line in world.told),
            60,
        )
        world.ballast.drop()
        await _works_again(functools.partial(world.param, 1000))
        await world.check()


async def test_postgres_disk_is_full_the_worker_waits_in_sight_and_goes_on(tmp_path: Path, disk: Path) -> None:
    async with _world(tmp_path, disk, "postgres") as world, working(world.installation) as worker:
        await world.param(0)
        await world.installation.settled()
        world.ballast.fill(leave=4 * 1024 * 1024)
        n = 0
        while not worker.problems and n < 1500:
            await world.metric(n)
            n += 1
        assert worker.problems, "the disk did not get full"
        for extra in range(n, n + 5):
            await world.metric(extra)
        world.ballast.drop()
        await until("no problem left", lambda: not worker.problems, 120)
        await world.check()


async def _works_again(attempt: Callable[[], Awaitable[object]]) -> None:
    for _ in range(60):
        try:
            await attempt()
            return
        except LogUnavailable:
            await asyncio.sleep(0.5)
    raise AssertionError("appends did not work again after space had returned")
