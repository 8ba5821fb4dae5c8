"""Reactions act on the world: at least once, in order, and never because of a replay."""

import asyncio
from collections.abc import Sequence
from typing import Any

from runfold_schemas.codec.record import Record
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import append, fetch, outgoing, sender, until, working
from tests.support.installations.installation import Installation


class Witness:
    """Notes what it is told; refuses while `broken`."""

    name = "witness"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.broken = False

    async def react(self, pool: Any, records: Sequence[Record]) -> None:
        if self.broken:
            raise ConnectionError("the outside world is away")
        self.told += [record.event.name for record in records if isinstance(record.event, ExperimentCreated)]


def _created(first: int, count: int) -> list[ExperimentCreated]:
    return [ExperimentCreated(name=f"e{n}") for n in range(first, first + count)]


async def test_a_reaction_is_told_every_event_once_in_order_and_not_again_by_a_replay(
    installation: Installation,
) -> None:
    witness = Witness()
    async with sender(installation) as raw, working(installation, reactions={Topic.EXPERIMENTS: (witness,)}):
        records = [outgoing(Topic.EXPERIMENTS, event, sequence=n) for n, event in enumerate(_created(0, 20))]
        await append(installation, raw, records)
        await until("20 events told", lambda: len(witness.told) >= 20)
        rows = await installation.replayed()
        assert rows
        await append(installation, raw, [outgoing(Topic.EXPERIMENTS, _created(20, 1)[0], sequence=20)])
        await until("the next one told", lambda: "e20" in witness.told)
        assert witness.told == [f"e{n}" for n in range(21)]


async def test_a_failing_reaction_is_tried_again_and_projections_go_on(installation: Installation) -> None:
    witness = Witness()
    witness.broken = True
    async with sender(installation) as raw, working(installation, reactions={Topic.EXPERIMENTS: (witness,)}) as worker:
        records = [outgoing(Topic.EXPERIMENTS, event, sequence=n) for n, event in enumerate(_created(0, 3))]
        await append(installation, raw, records)
        await installation.settled()
        await until("the failure in sight", lambda: any("outside world is away" in p for p in worker.problems))
        assert witness.told == []
        witness.broken = False
        await until("all told after all", lambda: len(witness.told) == 3)
        await until("no problem left", lambda: not worker.problems)


async def test_a_reaction_goes_on_where_the_last_worker_stopped(installation: Installation) -> None:
    witness = Witness()
    async with sender(installation) as raw:
        for round_ in range(2):
            async with working(installation, reactions={Topic.EXPERIMENTS: (witness,)}):
                record = outgoing(Topic.EXPERIMENTS, _created(round_, 1)[0], sequence=round_)
                await append(installation, raw, [record])
                await until("told", lambda count=round_ + 1: len(witness.told) >= count)
                await _cursor_at(installation, 2 + round_)
    assert witness.told == ["e0", "e1"]


async def _cursor_at(installation: Installation, offset: int) -> None:
    for _ in range(400):
        rows = await fetch(installation, "SELECT next_offset FROM reaction_cursor WHERE reaction = 'witness'")
        if rows and rows[0][0] >= offset:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the cursor did not reach {offset}")
