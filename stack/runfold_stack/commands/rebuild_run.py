"""What the commands about generations do, and what they print."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from runfold_projections.control.migrations import check_migrated
from runfold_projections.core.errors import NoSuchGeneration
from runfold_projections.core.projection import Projection
from runfold_projections.generations.comparison import RowDifference
from runfold_projections.generations.generations import Generation
from runfold_projections.generations.inventory import GenerationInfo, inventory
from runfold_projections.generations.rebuild import ComparisonResult, drop_generations, rebuilding
from runfold_projections.generations.state_hash import state_hash
from runfold_projections.postgres.connection import LONG_READ_SECONDS, Connection, open_connection
from runfold_projections.postgres.read_transaction import checkpoints
from runfold_schemas.positions.vector import write_vector
from runfold_stack.errors import BadSetting

from .progress import progress

SHOWN_DIFFERENCES = 20


def projections(names: Sequence[str] | None) -> list[Projection]:
    """The projections of these names; none: all. BadSetting names those that there are."""
    try:
        return [Projection(name) for name in names] if names else list(Projection)
    except ValueError:
        raise BadSetting(f"{', '.join(names or ())}: the projections are {', '.join(Projection)}") from None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a rebuild was asked for."""

    projections: Sequence[Projection]
    dry_run: bool
    accept_changes: bool
    as_json: bool
    patience: float


async def rebuild(dsn: str, namespace: str, wish: Wish) -> bool:
    """Rebuild one after the other; False if rows differed and that was not accepted."""
    well = True
    await entries(dsn, namespace)
    for projection in wish.projections:
        report = _Report(wish.as_json)
        with progress() as tell:
            async with rebuilding(dsn, namespace, projection, tell, patience=wish.patience) as work:
                generation = await work.begin()
                await work.build(generation)
                compared = await work.compare(generation, report.print_difference)
                may = not compared.differences or wish.accept_changes
                if wish.dry_run or not may:
                    await work.drop(generation)
                else:
                    await work.switch(generation)
        well = well and may
        _say_result(generation, compared, may, wish)
    return well


def _say_result(generation: Generation, compared: ComparisonResult, may: bool, wish: Wish) -> None:
    switched = may and not wish.dry_run
    if wish.as_json:
        result = {
            "projection": generation.projection.value,
            "generation": generation.number,
            "vector": write_vector(compared.vector),
            "differences": compared.differences,
            "outcomes": compared.outcomes,
            "switched": switched,
        }
        print(json.dumps(result), flush=True)
        return
    found = "no row differs" if not compared.differences else f"{compared.differences} values or rows differ"
    if compared.outcomes:
        found += f", {compared.outcomes} of them outcomes of events"
    end = f"generation {generation.number} is live" if switched else f"generation {generation.number} was dropped"
    if not may and not wish.dry_run:
        end += "; --accept-changes switches all the same"
    print(f"{generation.projection}: {found}; {end}", flush=True)


class _Report:
    """Differences as they are found: as JSON lines all of them, for people the first ones."""

    def __init__(self, as_json: bool) -> None:
        self._as_json, self._count = as_json, 0

    def print_difference(self, difference: RowDifference) -> None:
        self._count += 1
        if self._as_json:
            print(json.dumps(difference.as_json(), default=str))
        elif self._count <= SHOWN_DIFFERENCES:
            key = " ".join(f"{name}={value}" for name, value in difference.key.items())
            column = "" if difference.column is None else f".{difference.column}"
            print(f"{difference.table}{column} {key}: {_shown(difference.old)} -> {_shown(difference.new)}")
        elif self._count == SHOWN_DIFFERENCES + 1:
            print("… more differ: --dry-run --json lists all")


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


async def rollback(dsn: str, namespace: str, asked: Sequence[Projection] | None, patience: float) -> None:
    """Make the generations live again that were before."""
    if asked is None:
        kept = {e.generation.projection for e in await entries(dsn, namespace) if e.generation.state == "standby"}
        asked = [projection for projection in Projection if projection in kept]
        if not asked:
            raise NoSuchGeneration("no projection has a standby; `runfold rebuild` builds new generations")
    for projection in asked:
        with progress() as tell:
            async with rebuilding(dsn, namespace, projection, tell, patience=patience) as work:
                generation = await work.standby()
                await work.switch(generation)
        print(f"{projection}: generation {generation.number} is live again", flush=True)


async def entries(dsn: str, namespace: str) -> list[GenerationInfo]:
    """What there is."""
    async with control(dsn, namespace) as connection:
        return await inventory(connection)


def line(entry: GenerationInfo) -> str:
    """A generation for people."""
    state = entry.generation.state + (f" {entry.snapshot}" if entry.snapshot else "")
    return (
        f"{entry.generation.projection:<12} {entry.generation.number:>4}  {state:<18} layout {entry.layout}  "
        f"{entry.size / 2**20:8.1f} MB  {write_vector(entry.checkpoints) or 'nothing folded yet'}"
    )


async def drop(dsn: str, namespace: str, projection: Projection, number: int) -> None:
    """Drop one; NoSuchGeneration says why not."""
    async with control(dsn, namespace) as connection:
        found = [entry for entry in await inventory(connection) if entry.generation.projection is projection]
        one = next((entry for entry in found if entry.generation.number == number), None)
        if one is None:
            there = ", ".join(str(entry.generation.number) for entry in found)
            raise NoSuchGeneration(f"projection {projection} has no generation {number}; it has {there}")
        if one.generation.state == "live":
            raise NoSuchGeneration(
                f"generation {number} of {projection} is live: `runfold rollback {projection}` or `runfold rebuild "
                f"{projection}` "
                "makes another one live first"
            )
        if one.snapshot is not None:
            raise NoSuchGeneration(
                f"generation {number} of {projection} belongs to a snapshot: `runfold snapshot drop {one.snapshot}`"
            )
        await drop_generations(connection, [one.generation.schema_name])


async def hashes(
    dsn: str, namespace: str, chosen: Sequence[Projection], number: int | None, snapshot: str | None
) -> list[dict[str, Any]]:
    """The hash of each projection's state, with its vector."""
    there = await entries(dsn, namespace)
    found = []
    for projection in chosen:
        generation = _chosen(there, projection, number, snapshot)
        async with (
            open_connection(
                dsn, generation.schema_name, application="runfold state-hash", timeout=LONG_READ_SECONDS
            ) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            vector = await checkpoints(connection)
            value = await state_hash(connection, projection)
        found.append(
            {
                "projection": projection.value,
                "generation": generation.number,
                "vector": write_vector(vector),
                "hash": value,
            }
        )
    return found


def _chosen(
    there: Sequence[GenerationInfo], projection: Projection, number: int | None, snapshot: str | None
) -> Generation:
    for entry in there:
        generation = entry.generation
        if generation.projection is not projection:
            continue
        if number is not None:
            fits = generation.number == number
        elif snapshot is not None:
            fits = entry.snapshot == snapshot
        else:
            fits = generation.state == "live"
        if fits:
            return generation
    what = f"snapshot `{snapshot}`" if snapshot is not None else f"generation {number}"
    raise NoSuchGeneration(f"projection {projection}: there is no {what}; `runfold generations` lists what there is")


@asynccontextmanager
async def control(dsn: str, namespace: str) -> AsyncIterator[Connection]:
    """A connection that sees the control schema, which is this release's: NotMigrated else."""
    async with open_connection(dsn, namespace, application="runfold", durable=True, timeout=60.0) as control:
        await check_migrated(control)
        yield control
