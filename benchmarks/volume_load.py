"""The loads of `volume.py`: what a training's processes do, each with points of its own."""

import asyncio
import itertools
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

import runfold
from runfold_log.cluster import KafkaCluster

Step = Callable[[], int]
"""Logs some points and answers how many."""


@dataclass(frozen=True)
class Share:
    """One process's part of a load. `rate` in points a second, 0: no bound."""

    uri: str
    kafka: KafkaCluster | None
    namespace: str
    number: int
    processes: int
    seconds: float
    rate: float


@contextmanager
def scalars(share: Share) -> Iterator[Step]:
    """`run.log` of 100 scalars a call."""
    rng = np.random.default_rng(share.number)
    keys = [f"layer{n}/norm" for n in range(100)]
    with runfold.run(experiment="volume", tracking_uri=share.uri) as run:

        def step() -> int:
            for row in rng.standard_normal((20, 100)).tolist():
                run.log(dict(zip(keys, row, strict=True)))
            return 2000

        yield step


@contextmanager
def single(share: Share) -> Iterator[Step]:
    """One scalar a call."""
    rng = np.random.default_rng(share.number)
    with runfold.run(experiment="volume", tracking_uri=share.uri) as run:

        def step() -> int:
            for value in rng.standard_normal(1000).tolist():
                run.log({"loss": value})
            return 1000

        yield step


@contextmanager
def series(share: Share) -> Iterator[Step]:
    """One key's points as an array, 10,000 a call."""
    rng = np.random.default_rng(share.number)
    with runfold.run(experiment="volume", tracking_uri=share.uri) as run:
        at = itertools.count()

        def step() -> int:
            first = next(at) * 10_000
            run.log_series("signal", np.arange(first, first + 10_000), rng.standard_normal(10_000))
            return 10_000

        yield step


@contextmanager
def rows(share: Share) -> Iterator[Step]:
    """Rows of 1,000 keys from an array, 50 a call."""
    rng = np.random.default_rng(share.number)
    keys = [f"layer{n}/gradient/norm" for n in range(1000)]
    with runfold.run(experiment="volume", tracking_uri=share.uri) as run:
        at = itertools.count()

        def step() -> int:
            first = next(at) * 50
            run.log_rows(keys, np.arange(first, first + 50), rng.standard_normal((50, 1000)))
            return 50_000

        yield step


def neptune_keys() -> list[str]:
    """Names of 45 bytes."""
    return [f"metrics/group-{n % 100:03d}/series-{n:05d}".ljust(45, "x") for n in range(9500)]


def neptune(share: Share) -> AbstractContextManager[Step]:
    """The "high" profile of Neptune's load generator: 1,200 runs of 9,500 series with names of 45 bytes, one point each
    in turn.
    """
    return _wide(share, 1200)


def wide(share: Share) -> AbstractContextManager[Step]:
    """The same with 40 runs, so that each gets some hours' points in a minute."""
    return _wide(share, 40)


@contextmanager
def _wide(share: Share, count: int) -> Iterator[Step]:
    rng = np.random.default_rng(share.number)
    keys = neptune_keys()
    with ExitStack() as stack:
        mine = range(share.number, count, share.processes)
        runs = [
            stack.enter_context(runfold.run(experiment="volume", name=f"run-{n}", tracking_uri=share.uri)) for n in mine
        ]
        turns = ((number, run) for number in itertools.count() for run in runs)

        def step() -> int:
            number, run = next(turns)
            run.log_rows(keys, [number], rng.standard_normal((1, 9500)))
            return 9500

        yield step


@contextmanager
def small(share: Share) -> Iterator[Step]:
    """10,000 small runs that flush ten points each in turn."""
    with _many(share, lambda number: ("loss",), 10) as step:
        yield step


@contextmanager
def slowkeys(share: Share) -> Iterator[Step]:
    """10,000 runs that each log one new key in turn, once a minute at 167 points a second."""
    with _many(share, lambda number: (f"epoch{number}/score",), 1) as step:
        yield step


@contextmanager
def _many(share: Share, keys: Callable[[int], tuple[str, ...]], points: int) -> Iterator[Step]:
    """10,000 runs in turn. Their events are made by the SDK's encoder and sent by its sender of
    records: ten thousand open runs with a spool each are no training's business on one machine.
    """
    from runfold.pipeline.encoder import RunEncoder
    from runfold_log.producer import RecordSender
    from runfold_schemas.codec.batch import Outgoing
    from runfold_schemas.events.frames import Frame
    from runfold_schemas.ids import Ids
    from runfold_schemas.positions.position import Partition
    from runfold_schemas.positions.topics import Topic, partition_of

    ids = Ids()
    rng = np.random.default_rng(share.number)
    encoders = []
    for n in range(share.number, 10_000, share.processes):
        run_id = f"{n:032x}"
        encoders.append((RunEncoder(run_id, ids), Partition(Topic.METRICS, partition_of(run_id.encode(), 8))))
    turns = ((number, one) for number in itertools.count() for one in encoders)
    # Where few points are wanted, few at once.
    at_once = min(500, max(1, int(share.rate / points / 4))) if share.rate else 500
    loop = asyncio.new_event_loop()

    async def open_sender() -> RecordSender:
        assert share.kafka is not None
        return await RecordSender(share.kafka, share.namespace, linger_ms=20, patience=600).__aenter__()

    sender = loop.run_until_complete(open_sender())

    async def send_some() -> int:
        lanes: dict[Partition, list[Outgoing]] = {}
        for number, (encoder, where) in itertools.islice(turns, at_once):
            # As the SDK's buffer makes it of as many calls.
            steps = array("q", range(points * number, points * (number + 1)))
            frame = Frame(keys(number), steps, steps, array("d", rng.standard_normal(points).tobytes()))
            lanes.setdefault(where, []).extend(record for record, _ in encoder.metrics((frame,)))
        await asyncio.gather(*(sender.send_all(where, lane) for where, lane in lanes.items()))
        return points * at_once

    try:
        yield lambda: loop.run_until_complete(send_some())
    finally:
        loop.run_until_complete(sender.__aexit__(None, None, None))
        loop.close()


def _calls(share: Share, rows: Callable[[int], dict[str, float]], at_once: int = 100) -> AbstractContextManager[Step]:
    """`run.log` of what `rows` answers for the number of the call."""

    @contextmanager
    def load() -> Iterator[Step]:
        with runfold.run(experiment="volume", tracking_uri=share.uri) as run:
            numbers = itertools.count()

            def step() -> int:
                points = 0
                for number in itertools.islice(numbers, at_once):
                    row = rows(number)
                    run.log(row)
                    points += len(row)
                return points

            yield step

    return load()


def newkeys(share: Share) -> AbstractContextManager[Step]:
    """Two new keys a call: a sweep of tasks in one run."""
    return _calls(share, lambda n: {f"task{n}/acc": 0.5 + n, f"task{n}/loss": 1.0 + n})


def newwide(share: Share) -> AbstractContextManager[Step]:
    """64 new keys a call; a million after 15,625."""
    return _calls(share, lambda n: {f"call{n}/layer{k}": float(n + k) for k in range(64)}, 10)


def churn(share: Share) -> AbstractContextManager[Step]:
    """Keys that come and go: each call has ten of 2,000, never the same ten."""
    return _calls(share, lambda n: {f"expert{(n * 7 + k * k * 31) % 2000}/load{k}": float(n) for k in range(10)})


def longnames(share: Share) -> AbstractContextManager[Step]:
    """One new key a call, with a name of 250 characters."""
    return _calls(share, lambda n: {f"sample{n}/".ljust(250, "x"): float(n)})


LOADS: dict[str, Callable[[Share], AbstractContextManager[Step]]] = {
    "scalars": scalars,
    "single": single,
    "series": series,
    "rows": rows,
    "neptune": neptune,
    "wide": wide,
    "small": small,
    "slowkeys": slowkeys,
    "newkeys": newkeys,
    "newwide": newwide,
    "churn": churn,
    "longnames": longnames,
}
