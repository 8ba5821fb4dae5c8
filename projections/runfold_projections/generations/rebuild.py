"""A rebuild: a new generation beside the live one, caught up, compared row by row, and switched. And the way back.

Workers fold. All decisions of this module are in the control schema, so the next `runfold rebuild` resumes one that was
killed. The comparison is exact although writes continue: the building generation is held (`until`) and then advanced to
exactly the vector of the live one in a read transaction.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from runfold_projections.core.errors import Busy, NoSuchGeneration, Stalled
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import LONG_READ_SECONDS, Connection, identifier, open_connection
from runfold_projections.postgres.fold_wait import LookAtFolds, wait_for_folds
from runfold_projections.postgres.read_transaction import checkpoints, has_reached
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.vector import Vector

from .comparison import RowDifference, differences
from .fingerprint import fingerprint
from .generations import Generation, create_generation, retire, switch
from .inventory import checkpoints_of, generations_of

LOOK = 0.2
"""Seconds between looks at checkpoints."""
NEAR = 5_000
"""Records behind the live generation at which a building one counts as caught up, before it is held."""
HEARD = 1.5
"""Seconds after which workers respect a new bound."""
LOCK_MS = 300
"""How long a switch waits for readers of the views.

Other readers queue behind it, so it then lets them pass and retries.
"""
DROP_LOCK_MS = 5_000
"""How long a drop waits for the tables: longer than an automatic vacuum takes to give way."""
LEVEL_WAIT = 1.0
"""Seconds for which a switch holds the live generation while the other one catches up."""
_LEVEL_PAUSE_SECONDS = 0.01


class Phase(StrEnum):
    """What a rebuild is doing."""

    REPLAY = "replaying"
    HOLD = "holding"
    COMPARE = "comparing"
    CATCH_UP = "catching up"
    SWITCH = "switching"


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How many of the log's records are folded. `total` grows with writes.

    `snapshot` is its name, if the generation is part of one.
    """

    generation: Generation
    phase: Phase
    folded: int
    total: int
    snapshot: str | None = None


OnProgress = Callable[[RebuildProgress], None]
OnDifference = Callable[[RowDifference], None]


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """What a comparison found, and at which vector."""

    vector: dict[Partition, int]
    differences: int
    outcomes: int
    """How many of the differences are of events that are now accepted, or refused, otherwise."""


class Rebuild:
    """One projection's rebuild or rollback. Nobody else may be at it at the same time: Busy.

    `patience`: seconds without any progress of a generation that is waited for, after which it is Stalled.
    """

    def __init__(
        self,
        dsn: str,
        namespace: str,
        projection: Projection,
        control: Connection,
        on_progress: OnProgress,
        patience: float,
    ) -> None:
        self._dsn, self._namespace, self._projection = dsn, namespace, projection
        self._control, self._on_progress, self._patience = control, on_progress, patience

    async def begin(self) -> Generation:
        """Return the generation to build: that of an interrupted rebuild by the same code, or a new one."""
        code = fingerprint()
        there = await generations_of(self._control, self._projection, "building")
        same = {
            row["schema_name"]
            for row in await self._control.fetch(
                "SELECT schema_name FROM generation WHERE state = 'building' AND code = $1", code
            )
        }
        async with self._control.transaction():
            found = next((g for g in there if g.schema_name in same), None)
            await retire(self._control, [g.schema_name for g in there if g is not found])
            if found is None:
                found = await create_generation(self._control, self._namespace, self._projection, code=code)
            await self._bound(found, None)
        return found

    async def build(self, generation: Generation) -> None:
        """Wait until it is folded about as far as the live one."""
        await self._near(generation, Phase.REPLAY)

    async def compare(self, generation: Generation, report: OnDifference) -> ComparisonResult:
        """Report every row that differs, at one vector. Folding of the generation continues afterwards."""
        compared: list[ComparisonResult] = []

        async def read(old: Connection, new: Connection, vector: dict[Partition, int]) -> None:
            self._report(generation, Phase.COMPARE, vector, vector)
            found = outcomes = 0
            async for difference in differences(old, new, self._projection):
                found += 1
                outcomes += difference.alters_outcome
                report(difference)
            compared.append(ComparisonResult(vector, found, outcomes))

        while not await self._at_one_vector(generation, read):
            await asyncio.sleep(HEARD)
        await self._bound(generation, None)
        return compared[0]

    async def switch(self, generation: Generation) -> None:
        """Make it the live one, in one transaction, once it has caught up; the old live one becomes the standby."""
        await self._near(generation, Phase.CATCH_UP)
        pause = LOOK
        while not await self._try_switch(generation):
            self._report(generation, Phase.SWITCH, {}, {})
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 1.5)
        await self._keep_one_standby()

    async def standby(self) -> Generation:
        """Return the generation that a rollback switches to; NoSuchGeneration if none is kept."""
        found = await generations_of(self._control, self._projection, "standby")
        if not found:
            raise NoSuchGeneration(
                f"projection {self._projection}: no earlier generation is kept; "
                f"`runfold rebuild {self._projection}` builds a new one"
            )
        return found[0]

    async def drop(self, generation: Generation) -> None:
        """Give up a generation that is not live."""
        await drop_generations(self._control, [generation.schema_name])

    async def _keep_one_standby(self) -> None:
        rows = await self._control.fetch(
            """
            SELECT schema_name FROM generation WHERE projection = $1 AND state = 'standby'
            ORDER BY switched_at DESC OFFSET 1
            """,
            self._projection.value,
        )
        if rows:
            await drop_generations(self._control, [row["schema_name"] for row in rows])

    async def _bound(self, generation: Generation, vector: Vector | None) -> None:
        until = None
        if vector is not None:
            mine = {where.partition: end for where, end in vector.items()}
            until = [mine.get(number, 0) for number in range(1 + max(mine, default=0))]
        await self._control.execute(
            "UPDATE generation SET until = $2 WHERE schema_name = $1", generation.schema_name, until
        )

    async def _live(self) -> Generation:
        return (await generations_of(self._control, self._projection, "live"))[0]

    async def _near(self, generation: Generation, phase: Phase) -> None:
        """Wait until a generation is nearly as far as the live one."""
        live = await self._live()

        async def read() -> tuple[Vector, bool]:
            have = await checkpoints_of(self._control, generation.schema_name)
            want = await checkpoints_of(self._control, live.schema_name)
            self._report(generation, phase, have, want)
            behind = sum(max(0, end - have.get(where, 0)) for where, end in want.items())
            return have, behind <= NEAR and have.keys() >= want.keys()

        await self._wait(read, generation)

    async def _at_one_vector(
        self, generation: Generation, read: Callable[[Connection, Connection, dict[Partition, int]], Awaitable[None]]
    ) -> bool:
        """Advance the generation to a vector of the live one, and compare both there; False if it was beyond it."""
        live = await self._live()
        # Held where it is, so that the live one gets ahead of it.
        await self._bound(generation, await checkpoints_of(self._control, generation.schema_name))
        await self._passed(live, generation)
        async with self._snapshot(live) as old:
            vector = await checkpoints(old)
            await self._bound(generation, vector)
            if not await self._led_to(generation, vector):
                return False
            async with self._snapshot(generation) as new:
                if await checkpoints(new) != vector:
                    return False
                await read(old, new, vector)
        return True

    async def _passed(self, live: Generation, generation: Generation) -> None:
        """Wait until the live generation is as far as a held one."""

        async def read() -> tuple[Vector, bool]:
            have = await checkpoints_of(self._control, live.schema_name)
            return have, has_reached(have, await checkpoints_of(self._control, generation.schema_name))

        await self._wait(read, live)

    async def _led_to(self, generation: Generation, vector: Mapping[Partition, int]) -> bool:
        """Wait until a generation is at exactly this vector; False if it is beyond it."""

        async def read() -> tuple[Vector, bool]:
            have = await checkpoints_of(self._control, generation.schema_name)
            self._report(generation, Phase.HOLD, have, vector)
            return have, have == vector or any(end > vector.get(where, 0) for where, end in have.items())

        return await self._wait(read, generation, pause=LOOK / 4) == vector

    async def _wait(self, read: LookAtFolds, generation: Generation, pause: float = LOOK) -> Vector:
        """Wait for a generation. Stalled if it does not move."""

        def stalled(have: Vector) -> Stalled:
            return Stalled(
                f"generation {generation.number} of {generation.projection} has not moved for {self._patience:g} s "
                f"at {sum(have.values())} records. Is a worker running? `runfold status` says; the same command "
                "goes on later"
            )

        return await wait_for_folds(read, pause=pause, patience=self._patience, stalled=stalled)

    @asynccontextmanager
    async def _snapshot(self, generation: Generation) -> AsyncIterator[Connection]:
        async with (
            open_connection(
                self._dsn, generation.schema_name, application="runfold rebuild", timeout=LONG_READ_SECONDS
            ) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def _try_switch(self, generation: Generation) -> bool:
        live = await self._live()
        try:
            async with self._control.transaction():
                await self._control.execute(f"SET LOCAL lock_timeout = '{LOCK_MS}ms'")
                # From here on nothing commits into the live one, so no reader sees an older state after the switch.
                await self._control.fetch(
                    f"SELECT FROM {identifier(live.schema_name)}.checkpoint ORDER BY partition FOR SHARE"
                )
                want = await checkpoints_of(self._control, live.schema_name)
                if not await self._level(generation, want):
                    return False
                await switch(self._control, generation)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            return False
        return True

    async def _level(self, generation: Generation, want: Mapping[Partition, int]) -> bool:
        """Wait until a generation has reached these end offsets; False if it did not in time."""

        async def read() -> tuple[Vector, bool]:
            have = await checkpoints_of(self._control, generation.schema_name)
            return have, has_reached(have, want)

        try:
            await wait_for_folds(read, pause=_LEVEL_PAUSE_SECONDS, timeout=LEVEL_WAIT)
        except TimeoutError:
            return False
        return True

    def _report(self, generation: Generation, phase: Phase, have: Vector, want: Vector) -> None:
        self._on_progress(
            RebuildProgress(generation, phase, sum(have.values()), max(sum(want.values()), sum(have.values())))
        )


@asynccontextmanager
async def rebuilding(
    dsn: str, namespace: str, projection: Projection, tell: OnProgress = lambda _: None, *, patience: float = 60.0
) -> AsyncIterator[Rebuild]:
    """Lock a projection for a rebuild or a rollback. Busy if another process has the lock."""
    async with open_connection(dsn, namespace, application="runfold rebuild", durable=True, timeout=60.0) as control:
        has = await control.fetchval(
            "SELECT pg_try_advisory_lock(hashtextextended('runfold rebuild ' || $1 || ' ' || $2, 0))",
            namespace,
            projection.value,
        )
        if not has:
            raise Busy(f"projection {projection}: another process rebuilds it, or switches its generations, right now")
        yield Rebuild(dsn, namespace, projection, control, tell, patience)


async def drop_generations(control: Connection, schema_names: list[str]) -> None:
    """Retire generations that are not live. If their tables are in use, workers drop them later."""
    await control.execute(
        "UPDATE generation SET state = 'retired' WHERE schema_name = ANY ($1::text[]) AND state <> 'live'", schema_names
    )
    await drop_retired(control, schema_names)


async def drop_retired(control: Connection, schema_names: list[str]) -> None:
    """Drop schemas of retired generations whose tables are not in use."""
    for name in schema_names:
        with contextlib.suppress(asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            async with control.transaction():
                await control.execute(f"SET LOCAL lock_timeout = '{DROP_LOCK_MS}ms'")
                await retire(control, [name])


async def drop_expired(control: Connection, seconds: float) -> list[str]:
    """Drop standbys replaced at least `seconds` ago, and remains of retired generations; return their schemas."""
    rows = await control.fetch(
        """
        SELECT schema_name FROM generation
        WHERE state = 'standby' AND switched_at < now() - make_interval(secs => $1)
           OR state = 'retired' AND to_regnamespace(schema_name) IS NOT NULL
        """,
        seconds,
    )
    names = [row["schema_name"] for row in rows]
    if names:
        await drop_generations(control, names)
    return names
