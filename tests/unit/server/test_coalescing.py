"""Look-ups that callers share: each is answered by one that began after it asked, and no caller's end is another's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from runfold_server.core.coalescing import Coalescer
from runfold_server.core.errors import Unavailable


class Table:
    """Look-ups that can be held and made to fail; `asked` has the keys of each."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.told = 0
        self.go = asyncio.Semaphore(9)
        self.fault: Exception | None = None

    def release_all(self) -> None:
        for _ in range(9):
            self.go.release()

    async def look(self, keys: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        self.asked.append(list(keys))
        told = self.told
        await self.go.acquire()
        if self.fault is not None:
            raise self.fault
        return {key: (key, told) for key in keys}


async def held(table: Table, together: Coalescer[int, tuple[int, int]]) -> asyncio.Task[tuple[int, int]]:
    """A first caller whose look-up is under way."""
    table.go = asyncio.Semaphore(0)
    first = asyncio.create_task(together.get(0))
    await asyncio.sleep(0.01)
    return first


async def sharing(
    table: Table, together: Coalescer[int, tuple[int, int]]
) -> tuple[asyncio.Task[tuple[int, int]], asyncio.Task[tuple[int, int]]]:
    """Callers 1 and 2, whose look-up in common is under way; the first of them asked it."""
    first = await held(table, together)
    leader, other = [asyncio.create_task(together.get(n)) for n in (1, 2)]
    await asyncio.sleep(0.01)
    table.go.release()
    await first
    await asyncio.sleep(0.01)
    assert table.asked == [[0], [1, 2]]
    return leader, other


async def test_those_who_come_while_a_look_up_is_under_way_share_the_next() -> None:
    table = Table()
    together = Coalescer(table.look)
    first = await held(table, together)
    # What is told from now on, those who ask from now on must see.
    table.told = 7
    later = [asyncio.create_task(together.get(n)) for n in range(1, 9)]
    await asyncio.sleep(0.01)
    table.release_all()
    assert await first == (0, 0)
    assert [await task for task in later] == [(n, 7) for n in range(1, 9)]
    assert table.asked == [[0], list(range(1, 9))]


async def test_the_same_question_of_two_callers_is_answered_to_both() -> None:
    table = Table()
    together = Coalescer(table.look)
    first = await held(table, together)
    both = [asyncio.create_task(together.get(3)) for _ in range(2)]
    table.release_all()
    assert [await first, *await asyncio.gather(*both)] == [(0, 0), (3, 0), (3, 0)]


async def test_a_failure_goes_to_those_it_was_for_and_no_others() -> None:
    table = Table()
    together = Coalescer(table.look)
    first = await held(table, together)
    both = [asyncio.create_task(together.get(n)) for n in (1, 2)]
    await asyncio.sleep(0.01)
    fault = Unavailable("away", 3)
    fault.__cause__ = OSError("cut")
    table.fault = fault
    table.release_all()
    with pytest.raises(Unavailable):
        await first
    errors = await asyncio.gather(*both, return_exceptions=True)
    assert [(str(error), type(getattr(error, "__cause__", None))) for error in errors] == [("away", OSError)] * 2
    assert errors[0] is not errors[1]
    assert len(table.asked) == 2
    table.fault = None
    assert await together.get(4) == (4, 0)


@pytest.mark.parametrize("gone", ["the one that asks", "one that waits"])
async def test_a_caller_that_gives_up_disturbs_nobody(gone: str) -> None:
    table = Table()
    together = Coalescer(table.look)
    first = await held(table, together)
    second, third = [asyncio.create_task(together.get(n)) for n in (1, 2)]
    await asyncio.sleep(0.01)
    left = first if gone == "the one that asks" else second
    left.cancel()
    await asyncio.wait([left])
    await asyncio.sleep(0.01)
    table.release_all()
    assert await third == (2, 0)
    assert await (second if left is first else first) == ((1, 0) if left is first else (0, 0))
    assert not [keys for keys in table.asked[1:] if 0 in keys or (left is second and 1 in keys)]


async def test_one_that_asked_for_others_and_gives_up_leaves_their_questions() -> None:
    table = Table()
    together = Coalescer(table.look)
    leader, other = await sharing(table, together)
    leader.cancel()
    await asyncio.wait([leader])
    table.release_all()
    assert await other == (2, 0)
    assert table.asked == [[0], [1, 2], [2]]


async def test_one_that_gives_up_while_another_asks_for_it_is_cancelled_and_nothing_else() -> None:
    table = Table()
    together = Coalescer(table.look)
    leader, other = await sharing(table, together)
    other.cancel()
    await asyncio.wait([other])
    assert other.cancelled()
    table.release_all()
    assert await leader == (1, 0)
    assert await together.get(3) == (3, 0)
    assert table.asked == [[0], [1, 2], [3]]
