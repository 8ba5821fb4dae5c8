"""Look-ups shared, waiters woken, reads bounded: the waiting parts against doubles of Kafka and Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_of
from runfold_server.core.errors import Unavailable
from runfold_server.core.metrics import ServerMetrics
from runfold_server.freshness.end_offsets import EndOffsets
from runfold_server.freshness.fold_progress import FoldProgress
from runfold_server.freshness.read_hints import ReadHintSender
from runfold_server.reads import reader as reads
from runfold_server.reads.reader import Consistency, FoldsBehind, Reader
from runfold_server.reads.scopes import Scope, of_run, of_topics

RUNS_0, RUNS_1, METRICS_0 = Partition(Topic.RUNS, 0), Partition(Topic.RUNS, 1), Partition(Topic.METRICS, 0)
EXPERIMENTS_0 = Partition(Topic.EXPERIMENTS, 0)


class Broker:
    """A look-up that can be held, counted, and made to fail."""

    def __init__(self) -> None:
        self.end = 0
        self.lookups = 0
        self.go = asyncio.Event()
        self.go.set()
        self.fault: Exception | None = None

    async def now(self) -> Mapping[Partition, int]:
        self.lookups += 1
        end = self.end
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return {RUNS_0: end}

    async def at(self, time_ms: int) -> Mapping[Partition, int]:
        raise NotImplementedError


async def test_many_callers_share_a_lookup_that_started_after_them() -> None:
    broker = Broker()
    ends = EndOffsets(broker)
    broker.go.clear()
    first = asyncio.create_task(ends.now())
    await asyncio.sleep(0.01)
    # The first look-up is under way; what is appended now must be seen by those who ask now.
    broker.end = 7
    later = [asyncio.create_task(ends.now()) for _ in range(100)]
    await asyncio.sleep(0.01)
    broker.go.set()
    assert await first == {RUNS_0: 0}
    assert [await task for task in later] == [{RUNS_0: 7}] * 100
    assert broker.lookups == 2


async def test_a_failed_lookup_fails_its_callers_and_no_others() -> None:
    broker = Broker()
    ends = EndOffsets(broker)
    broker.fault = Unavailable("away", 3)
    errors = await asyncio.gather(ends.now(), ends.now(), return_exceptions=True)
    assert [type(error) for error in errors] == [Unavailable, Unavailable]
    assert errors[0] is not errors[1]
    broker.fault = ValueError("a fault of ours")
    with pytest.raises(Unavailable, match="a fault of ours"):
        await ends.now()
    broker.fault = None
    assert await ends.now() == {RUNS_0: 0}


async def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    broker = Broker()
    ends = EndOffsets(broker)
    broker.go.clear()
    gone, stays = asyncio.create_task(ends.now()), asyncio.create_task(ends.now())
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.wait([gone])
    broker.go.set()
    assert await stays == {RUNS_0: 0}


async def test_waiters_wake_at_their_offset() -> None:
    progress = FoldProgress()
    progress.listening = True
    order: list[int] = []

    async def wait(end: int) -> None:
        await progress.wait_until({RUNS_0: end}, 5)
        order.append(end)

    tasks = [asyncio.create_task(wait(end)) for end in (3, 1, 2)]
    await asyncio.sleep(0)
    progress.record(RUNS_0, 2)
    await asyncio.sleep(0.01)
    assert sorted(order) == [1, 2]
    progress.record(RUNS_0, 1)
    progress.record(RUNS_0, 9)
    await asyncio.gather(*tasks)
    assert order[-1] == 3


async def test_nobody_waits_for_notices_that_nobody_hears() -> None:
    progress = FoldProgress()
    async with asyncio.timeout(1):
        await progress.wait_until({RUNS_0: 5}, 60)
        await progress.wait_for_notice(progress.version, 60)


class Rows:
    """A database double: each snapshot shows the next of some checkpoints, then the last one for ever."""

    def __init__(self, *checkpoints: Mapping[Partition, int]) -> None:
        self.checkpoints = list(checkpoints)
        self.snapshots = 0

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Mapping[Partition, int]]:
        self.snapshots += 1
        yield self.checkpoints.pop(0) if len(self.checkpoints) > 1 else self.checkpoints[0]


class FixedEnds:
    def __init__(self, ends: Mapping[Partition, int]) -> None:
        self.ends = ends

    async def now(self) -> Mapping[Partition, int]:
        return self.ends


@pytest.fixture
def read_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    async def checkpoints(snapshot: Any) -> Any:
        return dict(snapshot)

    monkeypatch.setattr(reads, "checkpoints", checkpoints)


async def answer(_: Any) -> str:
    return "rows"


def reader(rows: Any, ends: Mapping[Partition, int], progress: FoldProgress, wait: float = 5) -> Reader:
    fixed: Any = FixedEnds(ends)
    return Reader(rows, fixed, progress, ServerMetrics(), ReadHintSender(rows, "test"), wait=wait)


@pytest.mark.usefixtures("read_checkpoints")
async def test_a_strong_read_waits_for_the_folds() -> None:
    rows, progress = Rows({RUNS_0: 1}, {RUNS_0: 5}), FoldProgress()
    shown = await reader(rows, {RUNS_0: 5, METRICS_0: 9}, progress).read(of_topics(Topic.RUNS), answer)
    assert shown.value == "rows"
    assert shown.positions == {RUNS_0: 5}
    assert rows.snapshots == 2


@pytest.mark.usefixtures("read_checkpoints")
async def test_a_lost_notice_costs_a_poll_and_no_more() -> None:
    progress = FoldProgress()
    progress.listening = True
    async with asyncio.timeout(2):
        await reader(Rows({RUNS_0: 5}), {RUNS_0: 5}, progress).read(of_topics(Topic.RUNS), answer)


@pytest.mark.usefixtures("read_checkpoints")
async def test_a_notice_of_another_generation_does_not_make_it_spin() -> None:
    rows, progress = Rows({RUNS_0: 1}), FoldProgress()
    progress.listening = True
    progress.record(RUNS_0, 99)
    with pytest.raises(FoldsBehind):
        await reader(rows, {RUNS_0: 5}, progress, wait=0.6).read(of_topics(Topic.RUNS), answer)
    assert rows.snapshots < 10


@pytest.mark.usefixtures("read_checkpoints")
async def test_old_data_is_never_shown_as_new() -> None:
    rows = Rows({RUNS_0: 1, RUNS_1: 2})
    with pytest.raises(
        FoldsBehind, match=r"partition runs:0 is folded up to 1 of 5 \(and 1 more partitions\) after 0.1 s"
    ):
        await reader(rows, {RUNS_0: 5, RUNS_1: 3}, FoldProgress(), wait=0.1).read(of_topics(Topic.RUNS), answer)


@pytest.mark.usefixtures("read_checkpoints")
async def test_what_is_found_may_show_that_more_partitions_matter() -> None:
    """A forked run's read waits for the partitions of the runs that it inherits from."""
    rows, ends = Rows({RUNS_0: 5, RUNS_1: 2}, {RUNS_0: 5, RUNS_1: 3}), {RUNS_0: 5, RUNS_1: 3, METRICS_0: 9}

    def also(found: str) -> Scope:
        return lambda ends: {where: end for where, end in ends.items() if where is RUNS_1 and found == "rows"}

    shown = await reader(rows, ends, FoldProgress()).read(lambda ends: {RUNS_0: ends[RUNS_0]}, answer, also)
    assert shown.positions == {RUNS_0: 5, RUNS_1: 3}
    assert rows.snapshots == 2
    late = Rows({RUNS_0: 5, RUNS_1: 2})
    with pytest.raises(FoldsBehind, match="partition runs:1 is folded up to 2 of 3"):
        await reader(late, ends, FoldProgress(), wait=0.1).read(lambda ends: {RUNS_0: ends[RUNS_0]}, answer, also)


@pytest.mark.usefixtures("read_checkpoints")
async def test_an_eventual_read_waits_for_nothing() -> None:
    shown = await reader(Rows({RUNS_0: 1}), {}, FoldProgress()).read(
        of_topics(), answer, consistency=Consistency.EVENTUAL
    )
    assert shown.positions == {RUNS_0: 1}


def test_a_run_depends_on_its_own_partitions() -> None:
    count = 4
    ends = {Partition(topic, n): 1 for topic in (Topic.RUNS, Topic.METRICS) for n in range(count)} | {EXPERIMENTS_0: 1}
    for run_id in ("a", "b", "c", "0123"):
        own = partition_of(run_id.encode(), count)
        assert set(of_run(run_id, Topic.RUNS, Topic.EXPERIMENTS)(ends)) == {Partition(Topic.RUNS, own), EXPERIMENTS_0}
