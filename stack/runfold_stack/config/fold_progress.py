"""How far the log goes and how far it is folded, for commands that read the tables and must not read old ones."""

from collections.abc import Mapping

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import LogReader
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Pool
from runfold_projections.postgres.fold_wait import wait_for_folds
from runfold_projections.postgres.read_transaction import checkpoints, has_reached
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.vector import Vector
from runfold_stack.errors import FoldsBehind

_PAUSE_SECONDS = 0.05


async def log_ends(kafka: KafkaCluster, info: LogInfo) -> dict[Partition, int]:
    """The end offset of every partition that is folded."""
    folded = [part for projection in Projection for part in info.all_partitions(projection.topic)]
    async with LogReader(kafka, info.namespace) as reader:
        return await reader.end_offsets(folded)


async def until_folded(pool: Pool, want: Mapping[Partition, int], patience: float) -> None:
    """Return once the folds have has_reached these end offsets.

    FoldsBehind if they did not move for `patience` seconds.
    """

    async def look() -> tuple[Vector, bool]:
        async with pool.acquire() as connection:
            have = await checkpoints(connection)
        return have, has_reached(have, want)

    def stalled(have: Vector) -> FoldsBehind:
        where = next(where for where, end in want.items() if have.get(where, 0) < end)
        return FoldsBehind(
            f"The read models are behind the log: partition {where} is folded up to {have.get(where, 0)} of "
            f"{want[where]}, "
            f"and nothing moved for {patience:g} s. Is a worker running?"
        )

    await wait_for_folds(look, pause=_PAUSE_SECONDS, patience=patience, stalled=stalled)
