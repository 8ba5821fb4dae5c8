"""Metrics of logged models are a join of their points: no order, no cut and no repetition of frames changes them."""

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_projections.model_metrics.model_blocks import BlockOf, ModelBlock, ModelBlocks
from runfold_projections.model_metrics.model_blocks import join as join_blocks
from runfold_projections.model_metrics.model_metrics import Measured, ModelMetric, ModelMetrics, join
from runfold_schemas.events.frames import Frame, Point, from_points
from tests.support.histories.generator import frame

randoms = st.randoms(use_true_random=False)
NAN = math.nan
# As the fold makes them: without -0.0.
bounds = st.none() | st.floats(allow_nan=False).map(lambda value: value + 0.0)
metrics = st.builds(
    ModelMetric, st.integers(-1, 1), st.integers(-1, 1), st.sampled_from([0.0, 1.0, NAN, math.inf]), bounds, bounds
)


def shown(found: dict[Measured, ModelMetric]) -> dict[Measured, str]:
    # NaN is unequal to itself, and -0.0 equal to 0.0.
    return {measured: repr(metric) for measured, metric in found.items()}


def of(frames: list[Frame]) -> dict[Measured, ModelMetric]:
    made = ModelMetrics()
    for one in frames:
        made.add("r", one)
    return made.drain()


@settings(max_examples=200, deadline=None)
@given(randoms)
def test_order_cuts_and_repetitions_change_nothing(rng: Random) -> None:
    frames = [frame(rng) for _ in range(rng.randint(0, 6))]
    whole = of(frames)
    again = frames + [rng.choice(frames) for _ in range(3 if frames else 0)]
    rng.shuffle(again)
    at = rng.randint(0, len(again))
    parts = of(again[:at])
    for measured, metric in of(again[at:]).items():
        parts[measured] = join(parts[measured], metric) if measured in parts else metric
    assert shown(parts) == shown(whole)


@settings(max_examples=200, deadline=None)
@given(randoms)
def test_they_are_those_of_a_look_at_every_point(rng: Random) -> None:
    frames = [frame(rng) for _ in range(rng.randint(0, 6))]
    points: dict[Measured, list[tuple[int, int, float]]] = {}
    for one in frames:
        if not one.model_id:
            continue
        for place, value in enumerate(one.values):
            row, column = divmod(place, len(one.keys))
            context = (one.dataset_name or "", one.dataset_digest or "")
            measured = Measured(one.model_id, "r", one.keys[column], *context)
            points.setdefault(measured, []).append((one.times[row], one.steps[row], value + 0.0))
    expected = {}
    for measured, own in points.items():
        time_ms, step, value = max(own, key=lambda p: (p[0], p[1], math.isnan(p[2]), 0.0 if math.isnan(p[2]) else p[2]))
        numbers = [value for *_, value in own if not math.isnan(value)]
        expected[measured] = ModelMetric(time_ms, step, value, min(numbers, default=None), max(numbers, default=None))
    assert shown(of(frames)) == shown(expected)


@given(metrics, metrics, metrics)
def test_the_join_is_one(one: ModelMetric, two: ModelMetric, three: ModelMetric) -> None:
    assert repr(join(one, one)) == repr(one)
    assert repr(join(one, two)) == repr(join(two, one))
    assert repr(join(join(one, two), three)) == repr(join(one, join(two, three)))


def test_points_that_name_no_model_are_none_of_a_model() -> None:
    points = [Point("a", 1.0, 0, 0), Point("a", 2.0, 1, 0, "m-1"), Point("a", 3.0, 2, 0, "m-1", "iris", "d")]
    found = of(list(from_points(points)))
    assert found == {
        Measured("m-1", "r", "a", "", ""): ModelMetric(0, 1, 2.0, 2.0, 2.0),
        Measured("m-1", "r", "a", "iris", "d"): ModelMetric(0, 2, 3.0, 3.0, 3.0),
    }


def test_data_sets_have_short_marks_of_their_own_and_none_has_none() -> None:
    marks = [
        Measured("m", "r", "k", *names).dataset for names in (("", ""), ("a", ""), ("", "a"), ("a", "b"), ("ab", ""))
    ]
    assert marks[0] == b""
    assert len(set(marks)) == len(marks)
    assert {len(mark) for mark in marks[1:]} == {16}


def in_blocks(frames: list[Frame]) -> dict[BlockOf, ModelBlock]:
    made = ModelBlocks()
    for one in frames:
        made.add("r", one)
    return made.drain()


def by_key(blocks: dict[BlockOf, ModelBlock]) -> dict[Measured, ModelMetric]:
    """Return the metric of each key from blocks, as the view does."""
    found: dict[Measured, ModelMetric] = {}
    for name, block in blocks.items():
        assert list(block.keys) == sorted(block.keys)
        numbers = zip(block.keys, block.latest.tolist(), block.least.tolist(), block.most.tolist(), strict=True)
        for key, value, least, most in numbers:
            measured = Measured(name.model_id, name.run_id, key, name.dataset_name, name.dataset_digest)
            extremes = (None, None) if math.isnan(least) else (least, most)
            metric = ModelMetric(block.time_ms, block.step, value, *extremes)
            found[measured] = join(found[measured], metric) if measured in found else metric
    return found


@settings(max_examples=200, deadline=None)
@given(randoms)
def test_blocks_of_keys_say_what_rows_of_keys_say_however_they_are_cut(rng: Random) -> None:
    frames = [frame(rng) for _ in range(rng.randint(0, 6))]
    again = frames + [rng.choice(frames) for _ in range(3 if frames else 0)]
    rng.shuffle(again)
    at = rng.randint(0, len(again))
    parts = in_blocks(again[:at])
    for name, block in in_blocks(again[at:]).items():
        parts[name] = join_blocks(parts[name], block) if name in parts else block
    assert shown(by_key(parts)) == shown(by_key(in_blocks(frames))) == shown(of(frames))


def test_a_row_of_thousands_of_keys_is_a_few_blocks_of_sorted_ones() -> None:
    points = [Point(f"k{n}", float(n), 1, 2, "m-1") for n in range(1_500)]
    blocks = in_blocks(list(from_points(points)))
    assert [len(block.keys) for block in blocks.values()] == [512, 512, 476]
    assert by_key(blocks) == of(list(from_points(points)))
