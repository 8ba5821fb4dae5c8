"""What `runfold snapshot` does."""

import asyncio
import functools
import hashlib
import re
import time
from dataclasses import dataclass

from runfold_log.admin import open_log
from runfold_log.cluster import KafkaCluster
from runfold_log.log_ends import LogEnds
from runfold_projections.core.errors import NoSuchSnapshot, Stalled
from runfold_projections.core.projection import Projection
from runfold_projections.generations.generations import Generation
from runfold_projections.generations.rebuild import Phase, RebuildProgress
from runfold_projections.generations.snapshots import Snapshot, create_snapshot, drop_snapshot, read_snapshots
from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.vector import Vector, write_vector
from runfold_server.core.errors import ApiError, InvalidParameter
from runfold_server.freshness.end_offsets import FOLDED, EndOffsets
from runfold_server.reads.moments import Moments, parse_moment
from runfold_stack.errors import BadSetting

from .progress import progress
from .rebuild_run import control

_LOOK = 0.25
_KAFKA_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """The snapshot to create."""

    name: str | None
    moment: str
    wait: bool
    patience: float


async def create(kafka: KafkaCluster, dsn: str, namespace: str, wanted: SnapshotRequest) -> str:
    """Create a snapshot, wait until it is folded unless asked not to, and return the message for the user."""
    info = await open_log(kafka, namespace)
    log_ends = LogEnds(kafka, functools.partial(open_log, kafka, namespace), FOLDED, timeout=_KAFKA_TIMEOUT)
    try:
        moments = Moments(EndOffsets(log_ends))
        vector = await moments.resolve(wanted.moment, "--vector" if wanted.moment[:1].isalpha() else "--at")
        if wanted.name:
            await _check_reads_as_no_other(moments, wanted.name, vector)
    except ApiError as error:
        raise BadSetting(error.message) from None
    finally:
        await log_ends.close()
    name = wanted.name or named_after(wanted.moment)
    async with control(dsn, namespace) as connection:
        await create_snapshot(connection, namespace, name, vector, wanted.moment, info.partitions)
        if not wanted.wait:
            return (
                f"snapshot {name} at {write_vector(vector)}: workers fold it; `runfold snapshot list` shows how "
                "far they are"
            )
        snapshot = await _until_ready(connection, name, wanted.patience)
    return (
        f"snapshot {name} at {write_vector(snapshot.vector)}: {snapshot.total:,} records folded, "
        f"{snapshot.size / 2**20:.1f} MB"
    )


async def _check_reads_as_no_other(moments: Moments, name: str, vector: Vector) -> None:
    # `as_of` takes names and times: 20260301 as the name of a moment in May would be told of one day here and of
    # another there.
    try:
        parse_moment(name)
    except InvalidParameter:
        return
    if await moments.resolve(name, "name") != vector:
        raise BadSetting(
            f"snapshot {name!r}: the name reads as a moment, and as another one than that of this snapshot"
        )


async def _until_ready(connection: Connection, name: str, patience: float) -> Snapshot:
    seen, since = -1, time.monotonic()
    with progress() as tell:
        while True:
            found = await read_snapshots(connection, name=name)
            if not found:
                raise NoSuchSnapshot(f"snapshot `{name}` was dropped meanwhile")
            snapshot = found[0]
            generation = Generation(Projection.RUNS, 0, "", "past")
            tell(RebuildProgress(generation, Phase.REPLAY, max(0, snapshot.folded), snapshot.total, snapshot=name))
            if snapshot.ready:
                return snapshot
            if snapshot.folded != seen:
                seen, since = snapshot.folded, time.monotonic()
            if time.monotonic() - since > patience:
                raise Stalled(
                    f"snapshot `{name}` has not moved for {patience:g} s at {snapshot.folded:,} of "
                    f"{snapshot.total:,} records. Is a worker running? "
                    "It is folded as soon as there is one"
                )
            await asyncio.sleep(_LOOK)


def named_after(moment: str) -> str:
    """A name for a snapshot of this moment: the time's digits, or a vector's hash."""
    plain = re.sub(r"[^0-9a-z]+", "_", moment.lower()).strip("_")
    if moment[:1].isdigit() and len(plain) <= 17:
        return plain
    return "v" + hashlib.sha256(moment.encode()).hexdigest()[:12]


async def listed(dsn: str, namespace: str) -> list[Snapshot]:
    """Return all snapshots."""
    async with control(dsn, namespace) as connection:
        return await read_snapshots(connection)


def line(snapshot: Snapshot) -> str:
    """Return a line about a snapshot."""
    how = "ready" if snapshot.ready else f"{snapshot.folded:,} of {snapshot.total:,} records folded"
    return (
        f"{snapshot.name:<17}  {snapshot.asked}  {how}  {snapshot.size / 2**20:.1f} MB  {write_vector(snapshot.vector)}"
    )


async def drop(dsn: str, namespace: str, name: str) -> None:
    """Drop one."""
    async with control(dsn, namespace) as connection:
        await drop_snapshot(connection, namespace, name)
