"""Runs with ever more keys: each new key costs the same time and memory, and runs that share names do not disturb each
other.
"""

import gc
import time
import tracemalloc
from array import array
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_projections.metrics import keys, summaries
from runfold_projections.metrics.keys import Layouts
from runfold_projections.metrics.summaries import Summaries
from runfold_schemas.events.frames import Frame

randoms = st.randoms(use_true_random=False)


def row(*names: str, step: int = 0) -> Frame:
    return Frame(names, array("q", [step]), array("q", [step]), array("d", [float(step)] * len(names)))


def calls(count: int, width: int, run: str = "") -> Iterator[Frame]:
    """Generate the frames of a training whose every call has new keys."""
    for n in range(count):
        yield row(*(f"{run}task{n}/metric{k}" for k in range(width)), step=n)


def seconds(count: int, width: int) -> float:
    """Return the processor time in seconds, the best of three."""
    found = []
    for _ in range(3):
        frames, folded = list(calls(count, width)), Summaries()
        gc.collect()
        began = time.process_time()
        for frame in frames:
            folded.add(frame)
            for number in folded.drain_changed()[0]:
                assert number < folded.blocks
        found.append(time.process_time() - began)
    return min(found)


@pytest.mark.parametrize(("count", "width"), [(2_500, 1), (2_500, 2), (150, 64)])
def test_four_times_as_many_new_keys_cost_about_four_times_as_much(count: int, width: int) -> None:
    assert seconds(4 * count, width) < 8 * seconds(count, width)


@pytest.mark.parametrize(("count", "width"), [(6_400, 1), (400, 64)])
def test_memory_follows_the_keys_and_is_free_when_the_run_is_forgotten(count: int, width: int) -> None:
    layouts = Layouts()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run = Summaries(layouts)
        for frame in calls(count, width):
            run.add(frame)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        told = run.size + run.keys_held.bytes
        assert held < 600 * count * width
        assert held < 1.5 * told, "what the bound of a partition's memory counts is what is taken"
        del run, frame
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()


def test_names_of_many_runs_that_log_the_same_are_there_once() -> None:
    layouts = Layouts()
    runs = [Summaries(layouts) for _ in range(20)]
    for frame in calls(100, 3):
        for run in runs:
            run.add(frame)
    assert len({id(run.keys_held) for run in runs}) == 1
    restored = Summaries(layouts)
    restored.restore([runs[0].block(number) for number in range(runs[0].blocks)])
    assert restored.keys_held is runs[0].keys_held


def test_runs_of_two_kinds_share_their_names_by_kind() -> None:
    layouts = Layouts()
    runs = [Summaries(layouts) for _ in range(10)]
    for run in runs:
        run.add(row("loss", "lr"))
    for n, run in enumerate(runs):
        for frame in calls(50, 2, f"kind{n % 2}/"):
            run.add(frame)
    assert len({id(run.keys_held) for run in runs}) == 2


@settings(max_examples=200, deadline=None)
@given(randoms)
def test_runs_that_share_names_are_what_they_would_be_alone(rng: Random) -> None:
    layouts = Layouts()
    shared, alone = [Summaries(layouts) for _ in range(4)], [Summaries() for _ in range(4)]
    for step in range(rng.randint(1, 30)):
        n = rng.randrange(len(shared))
        frame = row(*rng.sample("abcdefgh", rng.randint(1, 4)), step=step)
        shared[n].add(frame)
        alone[n].add(frame)
        if rng.random() < 0.2:
            n = rng.randrange(len(shared))
            blocks = [shared[n].block(number) for number in range(shared[n].blocks)]
            shared[n] = Summaries(layouts)
            if rng.random() < 0.5:
                trim(shared)
            shared[n].restore(blocks)
        elif rng.random() < 0.2:
            n = rng.randrange(len(shared))
            gone = set(rng.sample("abcdefgh", 3)) & set(shared[n])
            shared[n].replace(gone, Summaries())
            alone[n].replace(gone, Summaries())
        elif rng.random() < 0.2:
            trim(shared)
        for one, other in zip(shared, alone, strict=True):
            assert list(one) == list(other)
            assert dict(one) == dict(other)


def trim(runs: list[Summaries]) -> None:
    """Trim as a partition that needs room: no list of names is longer than one of its runs needs."""
    for held in {id(run.keys_held): run.keys_held for run in runs}.values():
        held.trim(max(len(run) for run in runs if run.keys_held is held))


def test_lists_of_keys_that_are_remembered_are_bounded_by_the_keys_there_are() -> None:
    names = [f"key{n}" for n in range(1000)]
    run = Summaries()
    run.add(row(*names))
    most = run.keys_held.bytes
    rng = Random(1)
    for _ in range(50):
        run.add(row(*rng.sample(names, 900)))
        most = max(most, run.keys_held.bytes)
    assert most < 1000 * 400


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "rng" in request.fixturenames or "alone" in request.node.name:
        for module in (summaries, keys):
            monkeypatch.setattr(module, "BLOCK", 2)
