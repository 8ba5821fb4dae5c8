"""Laws of summaries and of points at rest: any order, cuts and repeats give the same points."""

import math
import struct
from array import array
from collections.abc import Iterable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runfold_projections.metrics import keys, summaries
from runfold_projections.metrics.keys import Layouts
from runfold_projections.metrics.run_metrics import RunMetrics
from runfold_projections.metrics.summaries import Block, Summaries, Summary
from runfold_projections.segments.frame_groups import join_frames
from runfold_projections.segments.level0 import decode_level0, encode_level0, read_level0_key
from runfold_schemas.events.frames import Frame
from tests.support.histories.generator import frame

Context = tuple[str | None, str | None, str | None]
Cell = tuple[int, int, str, Context]
randoms = st.randoms(use_true_random=False)
laws = settings(max_examples=100, deadline=None)


@pytest.fixture(autouse=True, params=[0, 8, 512], ids="without NumPy up to {} values".format)
def small_bounds(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for module in (summaries, keys):
        monkeypatch.setattr(module, "BLOCK", 2)
        monkeypatch.setattr(module, "FEW_KEYS", min(request.param, 4))
    monkeypatch.setattr(summaries, "FEW_VALUES", request.param)


def bits(value: float | None) -> str:
    """NaN is one value, 0.0 and -0.0 are two."""
    return "-" if value is None else value.hex()


def seen(summary: Summary) -> tuple[object, ...]:
    """Return a summary in the form of canonical rows."""
    last = summary.latest
    context = (last.model_id, last.dataset_name, last.dataset_digest)
    return last.step, last.time_ms, bits(last.value), context, bits(summary.least), bits(summary.most)


def frames_of(rng: Random, most: int = 8) -> list[Frame]:
    return [frame(rng) for _ in range(rng.randint(0, most))]


def cells(frames: Iterable[Frame]) -> dict[str, list[Cell]]:
    """Yield every point of every key, in order, one by one."""
    found: dict[str, list[Cell]] = {}
    for one in frames:
        context = (one.model_id or None, one.dataset_name or None, one.dataset_digest or None)
        for row in range(one.rows):
            for column, key in enumerate(one.keys):
                value = one.values[row * len(one.keys) + column]
                found.setdefault(key, []).append((one.steps[row], one.times[row], bits(value), context))
    return found


def modelled(points: list[Cell]) -> object:
    """Compute the summary of a set of points the slow way: by MLflow's order first, then a total one."""

    def order(point: Cell) -> tuple[object, ...]:
        step, time, text, context = point
        value = float.fromhex(text)
        nan = math.isnan(value)
        return step, time, 0.0 if nan else value, nan, math.copysign(1, value), *(name or "" for name in context)

    step, time, text, context = max(points, key=order)
    numbers = [value for _, _, text, _ in points if not math.isnan(value := float.fromhex(text))]
    least, most = (min(numbers) + 0.0, max(numbers) + 0.0) if numbers else (None, None)
    return step, time, text, context, bits(least), bits(most)


def shown(state: RunMetrics) -> dict[str, object]:
    return {key: seen(summary) for key, summary in state.summaries.items()}


@laws
@given(randoms)
def test_summaries_equal_a_model_over_the_set_of_points(rng: Random) -> None:
    frames, state = frames_of(rng), RunMetrics()
    for one in frames:
        before = shown(state)
        state.summaries.add(one)
        changed, _ = state.summaries.drain_changed()
        held = {key for number in changed for key in state.summaries.block(number).keys}
        assert {key for key, summary in shown(state).items() if summary != before.get(key)} <= held
    assert shown(state) == {key: modelled(points) for key, points in cells(frames).items()}


@laws
@given(randoms)
def test_batches_cut_anywhere_repeated_and_merged_per_source_fold_to_the_same(rng: Random) -> None:
    frames = frames_of(rng)
    plain, batched = RunMetrics(), RunMetrics()
    for one in frames:
        plain.summaries.add(one)
    at = 0
    while at < len(frames):
        batch = frames[at : at + rng.randint(1, 4)]
        for _ in range(rng.randint(1, 2)):
            by_source: dict[int, list[Frame]] = {}
            for one in batch:
                by_source.setdefault(rng.randint(0, 2), []).append(one)
            for part in by_source.values():
                for one in join_frames(part):
                    batched.summaries.add(one)
        at += len(batch)
    assert shown(batched) == shown(plain)


@laws
@given(randoms)
def test_the_join_of_summaries_is_the_summary_of_all_their_points(rng: Random) -> None:
    one, other, both = Summaries(), Summaries(), Summaries()
    for part in frames_of(rng):
        rng.choice([one, other]).add(part)
        both.add(part)
    one.join(other)
    assert {key: seen(one[key]) for key in one} == {key: seen(both[key]) for key in both}
    again = {key: seen(one[key]) for key in one}
    one.join(other)
    assert {key: seen(one[key]) for key in one} == again


def test_nan_counts_as_zero_against_numbers_as_in_mlflow() -> None:
    """SqlAlchemyStore keeps NaN as value 0 with a mark and takes the largest (step, timestamp, value)."""

    def latest(*of: float) -> float:
        state = RunMetrics()
        state.summaries.add(Frame(("k",), array("q", [1] * len(of)), array("q", [1] * len(of)), array("d", of)))
        return state.summaries["k"].latest.value

    assert latest(math.nan, -1.0) != latest(math.nan, -1.0), "NaN is above -1"
    assert latest(math.nan, 1.0) == 1.0
    assert latest(math.nan, -math.inf, math.inf) == math.inf


def test_an_empty_name_of_context_is_no_name_so_that_ties_do_not_hang_on_the_order() -> None:
    one, other = (Frame(("k",), array("q", [1]), array("q", [1]), array("d", [1.0]), model) for model in (None, ""))
    results = []
    for pair in ((one, other), (other, one)):
        state = RunMetrics()
        for part in pair:
            state.summaries.add(part)
        results.append(state.summaries["k"])
    assert results[0] == results[1]


def test_a_signalling_nan_is_a_nan_and_warns_nobody() -> None:
    (value,) = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000001))
    state = RunMetrics()
    signalling = array("d")
    signalling.frombytes(struct.pack("<QQ", 0x7FF0000000000001, 0x7FF0000000000001))
    assert math.isnan(value)
    state.summaries.add(Frame(("k",), array("q", [1, 2]), array("q", [1, 2]), signalling))
    assert state.summaries["k"].least is None


@laws
@given(randoms)
def test_summaries_are_the_same_after_they_were_stored_and_some_replaced(rng: Random) -> None:
    layouts = Layouts()
    frames = frames_of(rng)
    kept, stored = Summaries(layouts), Summaries(layouts)
    rows: dict[int, Block] = {}
    for one in frames:
        kept.add(one)
        stored.add(one)
        if rng.random() < 0.3:
            gone = {key for key in kept if rng.random() < 0.3}
            others = Summaries()
            for other in frames_of(rng, 3):
                others.add(other)
            expected = {key: seen(summary) for key, summary in kept.items() if key not in gone}
            expected |= {key: seen(others[key]) for key in gone if key in others}
            kept.replace(gone, others)
            stored.replace(gone, others)
            assert {key: seen(summary) for key, summary in kept.items()} == expected
        dirty, grown = stored.drain_changed()
        assert grown <= dirty
        for number in dirty:
            if number < stored.blocks:
                block = stored.block(number)
                assert number in grown or block.keys == rows[number].keys, "keys change only in blocks that say so"
                rows[number] = block
            else:
                rows.pop(number, None)
        assert sorted(rows) == list(range(stored.blocks))
        if rng.random() < 0.5:
            stored = Summaries(rng.choice([layouts, Layouts()]))
            stored.restore([rows[number] for number in sorted(rows)])
        told = {key: seen(summary) for number in rows for key, summary in rows[number].summaries()}
        assert told == {key: seen(summary) for key, summary in kept.items()}
        latest: dict[Any, list[Any]] = {key: one for number in rows for key, *one in rows[number].latest()}
        assert latest.keys() == told.keys()
        for key, (value, step, time, context) in latest.items():
            assert (step, time, bits(value), tuple(context)) == told[key][:4]
    assert dict(stored).keys() == dict(kept).keys()


def test_runs_that_log_the_same_keys_share_them_and_one_that_goes_on_alone_does_not_disturb_the_others() -> None:
    layouts = Layouts()
    names = tuple(f"k{n}" for n in range(64))
    row = Frame(names, array("q", [1]), array("q", [1]), array("d", range(len(names))))
    one, other = Summaries(layouts), Summaries(layouts)
    one.add(row)
    other.add(row)
    assert one.keys_held is other.keys_held
    other.add(Frame(("own",), array("q", [1]), array("q", [1]), array("d", [1.0])))
    assert (list(one), list(other)) == ([*names], [*names, "own"])
    assert one["k2"] == other["k2"]


def test_a_frame_that_names_a_key_twice_counts_both_columns() -> None:
    state = RunMetrics()
    state.summaries.add(Frame(("k", "k"), array("q", [1]), array("q", [1]), array("d", [1.0, 3.0])))
    assert (state.summaries["k"].latest.value, state.summaries["k"].least, state.summaries["k"].most) == (3.0, 1.0, 3.0)


@laws
@given(randoms)
def test_packing_keeps_every_point_and_the_order_of_rows_with_equal_keys(rng: Random) -> None:
    frames = frames_of(rng)
    read = decode_level0(encode_level0(join_frames(frames)))

    def by_shape(of: Iterable[Frame]) -> dict[object, list[object]]:
        rows: dict[object, list[object]] = {}
        for one in of:
            width = len(one.keys)
            for row in range(one.rows if width else 0):
                block = one.values[row * width : (row + 1) * width]
                shape = (one.keys, one.model_id, one.dataset_name, one.dataset_digest)
                rows.setdefault(shape, []).append((one.steps[row], one.times[row], block.tobytes()))
        return rows

    assert by_shape(read) == by_shape(frames)
    assert list(by_shape(read)) == list(by_shape(frames)), "in the order of first appearance"
    assert len(read) == len(by_shape(frames)), "equal key lists are one frame"


@laws
@given(randoms)
@example(Random(0))
def test_one_key_is_read_as_if_all_were(rng: Random) -> None:
    data = encode_level0(join_frames(frames_of(rng)))
    everything = cells(decode_level0(data))
    for key in ("a", "b", "ü", "absent"):
        steps, times, numbers = read_level0_key(data, key)
        assert (steps.dtype, times.dtype, numbers.dtype) == (np.dtype("int64"), np.dtype("int64"), np.dtype("float64"))
        found = [(int(s), int(t), bits(float(v))) for s, t, v in zip(steps, times, numbers, strict=True)]
        assert found == [point[:3] for point in everything.get(key, [])]


@pytest.mark.parametrize("rows", [1, 1000])
def test_a_long_series_survives_rest(rows: int) -> None:
    one = Frame(
        ("loss", "lr"),
        array("q", range(rows)),
        array("q", range(0, rows * 7, 7)),
        array("d", [n / 3 for n in range(2 * rows)]),
    )
    assert decode_level0(encode_level0(join_frames([one] * 3)))[0].values == one.values * 3
