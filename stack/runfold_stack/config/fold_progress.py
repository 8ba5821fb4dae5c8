"""How far the log goes and how far it is folded, for commands that read the tables and must not read old ones."""

import asyncio
import time
from collections.abc import Mapping

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import LogReader
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Pool
from runfold_projections.postgres.read_transaction import checkpoints, reached
from runfold_schemas.positions.position import Partition
from runfold_stack.errors import FoldsBehind

_LOOK = 0.05


async def log_ends(kafka: KafkaCluster, info: LogInfo) -> dict[Partition, int]:
    """The next offset of every partition that is folded."""
    folded = [part for projection in Projection for part in info.all_partitions(projection.topic)]
    async with LogReader(kafka, info.namespace) as reader:
        return await reader.end_offsets(folded)


async def until_folded(pool: Pool, want: Mapping[Partition, int], patience: float) -> None:
    """Return once the folds have reached these ends. FoldsBehind: they did not move for `patience` seconds."""
    seen: dict[Partition, int] = {}
    quiet_since = time.monotonic()
    while True:
        async with pool.acquire() as connection:
            have = await checkpoints(connection)
        if reached(have, want):
            return
        if have != seen:
            quiet_since, seen = time.monotonic(), have
        if time.monotonic() - quiet_since > patience:
            where = next(where for where, end in want.items() if have.get(where, 0) < end)
            raise FoldsBehind(
                f"The read models are behind the log: partition {where} is folded up to {have.get(where, 0)} of {want[where]}, "
                f"and nothing moved for {patience:g} s. Is a worker running?"
            )
        await asyncio.sleep(_LOOK)
