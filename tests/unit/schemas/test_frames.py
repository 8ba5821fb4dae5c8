"""Packing points into frames and cutting frames lose nothing and keep the order."""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.codec import metrics
from runfold_schemas.events.frames import MAX_FRAME_BYTES, Frame, Point, from_points, split
from runfold_schemas.events.metrics import MetricsLogged
from tests.support.histories.schema_strategies import doubles, frames, keys, quick, same

few_keys = st.sampled_from(["a", "b", "c"]) | keys
context = st.none() | st.sampled_from(["m-1", "m-2"])
points = st.builds(
    Point, few_keys, doubles, st.integers(-3, 3), st.integers(0, 2), context, st.none() | st.just("d"), st.none()
)


def flat(parts: Iterable[Frame]) -> list[tuple[object, ...]]:
    """The points in their order; values by their bits, so that NaN equals itself."""
    return [
        (
            key,
            array("d", [frame.values[row * len(frame.keys) + column]]).tobytes(),
            frame.steps[row],
            frame.times[row],
            frame.model_id,
            frame.dataset_name,
            frame.dataset_digest,
        )
        for frame in parts
        for row in range(frame.rows)
        for column, key in enumerate(frame.keys)
    ]


def as_tuple(p: Point) -> tuple[object, ...]:
    return (
        p.key,
        array("d", [p.value]).tobytes(),
        p.step,
        p.time_ms,
        p.model_id,
        p.dataset_name,
        p.dataset_digest,
    )


@quick
@given(st.lists(points, max_size=30))
def test_from_points_keeps_every_point(logged: list[Point]) -> None:
    packed = from_points(logged)
    assert Counter(flat(packed)) == Counter(as_tuple(p) for p in logged)
    event = MetricsLogged("r", packed)
    assert same(metrics.decode(metrics.encode(event)), event)
    assert event.points == len(logged)


def test_rows_of_equal_keys_are_one_frame_wherever_they_stand() -> None:
    logged = [Point(key, 1.0, step, step) for step in range(50) for key in ("a", "b")]
    (frame,) = from_points(logged)
    assert (frame.keys, frame.rows) == (("a", "b"), 50)
    alternating = from_points(Point("ab"[step % 2], 1.0, step, step) for step in range(50))
    assert [(frame.keys, frame.rows) for frame in alternating] == [(("a",), 25), (("b",), 25)]


def test_the_same_key_twice_at_one_step_is_two_rows() -> None:
    (frame,) = from_points([Point("a", 1.0, 5, 9), Point("a", 2.0, 5, 9)])
    assert (list(frame.steps), list(frame.values)) == ([5, 5], [1.0, 2.0])


def test_no_points_are_no_frames() -> None:
    assert from_points([]) == ()


@quick
@given(frame=frames(most_rows=40), most=st.integers(300, 1200))
def test_pieces_are_below_the_limit_and_keep_all_points(frame: Frame, most: int) -> None:
    pieces = list(split(frame, most))
    event = MetricsLogged("r", tuple(pieces))
    assert same(metrics.decode(metrics.encode(event)), event)
    for piece in pieces:
        assert len(metrics.encode(MetricsLogged("r", (piece,)))) < most
    if all(piece.keys == frame.keys for piece in pieces):
        assert flat(pieces) == flat([frame])
    by_key = [sorted(flat(parts), key=lambda point: str(point[0])) for parts in (pieces, [frame])]
    # Sorting is stable, so this compares each key's points in their order.
    assert by_key[0] == by_key[1]


def hard_frame(width: int, rows: int, key_chars: int = 8) -> Frame:
    """Deltas of ten bytes each: the largest encoding that so many rows can have."""
    ends = array("q", [-(2**62) if row % 2 else 2**62 + 1 for row in range(rows)])
    names = tuple(f"{number:0{key_chars}d}" for number in range(width))
    return Frame(names, ends, ends, array("d", [0.1] * (rows * width)), "m" * 250, "d" * 500, "e" * 250)


@pytest.mark.parametrize(("width", "rows"), [(1, 40_000), (100, 1500), (9_500, 12), (60_000, 2)])
def test_pieces_of_real_size_stay_below_the_frame_limit(width: int, rows: int) -> None:
    frame = hard_frame(width, rows)
    pieces = list(split(frame))
    assert len(pieces) > 1
    for piece in pieces:
        assert len(metrics.encode(MetricsLogged("r" * 256, (piece,)))) < MAX_FRAME_BYTES + 256
    assert sum(len(piece.values) for piece in pieces) == rows * width
    for _, same_keys in groupby(pieces, key=lambda piece: piece.keys):
        assert [step for piece in same_keys for step in piece.steps] == list(frame.steps)


def test_a_frame_at_the_edge_of_the_limit_is_cut_in_time() -> None:
    frame = replace(hard_frame(1, 60), model_id=None, dataset_name=None, dataset_digest=None)
    for most in range(200, 400):
        for piece in split(frame, most):
            assert len(metrics.encode(MetricsLogged("r", (piece,)))) < most


def test_a_single_key_too_wide_for_the_limit_is_cut_to_single_rows() -> None:
    pieces = list(split(hard_frame(1, 5), 10))
    assert [piece.rows for piece in pieces] == [1] * 5


def test_a_frame_that_fits_is_not_copied() -> None:
    frame = hard_frame(3, 3)
    assert list(split(frame)) == [frame]
    assert next(split(frame)) is frame
