"""What strong reads wait for reaches the workers, through Postgres, from any number of servers."""

import asyncio

from runfold_consumers.runtime.read_hints import ReadHints
from runfold_projections.control.migrations import migrate
from runfold_projections.postgres.connection import open_pool
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_server.core.database import Database
from runfold_server.freshness.read_hints import ReadHintSender
from tests.support.services.running import Services


async def test_a_worker_hears_how_far_the_readers_of_two_servers_wait(services: Services) -> None:
    await migrate(services.postgres, "urge")
    heard = ReadHints()
    partitions = [Partition(Topic.METRICS, n) for n in range(3)]
    async with open_pool(services.postgres, "urge", application="test") as pool, asyncio.timeout(30):
        urges = [ReadHintSender(Database(pool, acquire_timeout=5), "urge") for _ in range(2)]
        tasks = [asyncio.create_task(heard.listen(services.postgres, "urge"))]
        tasks += [asyncio.create_task(urge.serve()) for urge in urges]
        try:
            # Said again until it is heard: who listens later has heard nothing.
            while not await _heard(heard, partitions[0], 4):
                urges[0].send({partitions[0]: 5})
            urges[0].send({partitions[1]: 7, partitions[2]: 1})
            urges[1].send({partitions[1]: 6})
            await heard.pause_unless_needed(partitions[1], 6, 3600)
            await heard.pause_unless_needed(partitions[2], 0, 3600)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _heard(hints: ReadHints, where: Partition, next_offset: int) -> bool:
    try:
        async with asyncio.timeout(0.05):
            await hints.pause_unless_needed(where, next_offset, 3600)
    except TimeoutError:
        return False
    return True
