"""Long work gives the loop back, and of all that compute one does between two looks at what has come."""

import asyncio

import pytest

from runfold_projections.core import turns
from runfold_projections.core.turns import Turns


async def test_between_two_turns_of_others_one_slice_is_computed_however_many_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    slices, between = [0] * 8, []

    async def compute(n: int) -> None:
        own = Turns()
        for _ in range(50):
            slices[n] += 1
            await own.end()

    async def others() -> None:
        before = sum(slices)
        while True:
            await asyncio.sleep(0)
            now = sum(slices)
            between.append(now - before)
            before = now

    watching = asyncio.create_task(others())
    await asyncio.sleep(0)
    await asyncio.gather(*(compute(n) for n in range(8)))
    watching.cancel()
    assert slices == [50] * 8
    # At the start each computes until its first turn is over.
    assert max(between[8:]) <= 2
    assert len(between) >= 200


async def test_short_work_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 60.0)
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    own = Turns()
    for _ in range(1000):
        await own.end()
    assert not own.is_over
    assert not ran
