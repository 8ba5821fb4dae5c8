"""A partition lets records gather only while nobody waits for more than it has folded."""

import asyncio

from runfold_consumers.runtime.read_hints import Wanted
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

HERE, THERE = Partition(Topic.METRICS, 0), Partition(Topic.METRICS, 1)
FOR_EVER = 3600.0


async def test_a_rest_ends_when_somebody_waits_for_more_than_is_folded() -> None:
    wanted = Wanted()
    resting = asyncio.create_task(wanted.rest(HERE, 10, FOR_EVER))
    await asyncio.sleep(0)
    wanted.note(HERE, 11)
    await asyncio.wait_for(resting, 10)
    await asyncio.wait_for(wanted.rest(HERE, 10, FOR_EVER), 10)


async def test_what_is_folded_already_or_wanted_elsewhere_ends_no_rest() -> None:
    wanted = Wanted()
    wanted.note(HERE, 10)
    resting = asyncio.create_task(wanted.rest(HERE, 10, FOR_EVER))
    await asyncio.sleep(0)
    wanted.note(HERE, 9)
    wanted.note(THERE, 99)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not resting.done()
    wanted.note(HERE, 11)
    await asyncio.wait_for(resting, 10)


async def test_a_rest_ends_by_itself() -> None:
    await asyncio.wait_for(Wanted().rest(HERE, 10, 0.001), 10)
