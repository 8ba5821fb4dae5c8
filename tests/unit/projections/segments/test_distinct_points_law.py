"""Distinct points of pieces, against sets."""

import math
import struct

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from runfold_projections.segments.distinct_points import Columns, distinct_points, points_between
from runfold_projections.series.full_history import HistoryFilter, source_histories
from runfold_projections.series.points import SeriesPiece

values = st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf])
points = st.lists(
    st.tuples(st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1), st.integers(0, 2), values), max_size=12
)
bounds = st.none() | st.integers(-4, 4)


def columns(logged: list[tuple[int, int, float]]) -> Columns:
    return (
        np.array([step for step, _, _ in logged], np.int64),
        np.array([time for _, time, _ in logged], np.int64),
        np.array([value for _, _, value in logged], np.float64),
    )


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def rows(found: Columns) -> list[tuple[int, int, bytes]]:
    return [(s, t, bits(v)) for s, t, v in zip(*(column.tolist() for column in found), strict=True)]


@given(st.lists(points, min_size=1, max_size=4), bounds, bounds)
@example([[(1, 0, 0.5), (-(2**63), 0, 0.5)]], None, None)
def test_each_point_is_there_once_in_the_order_of_steps_and_only_within_the_range(
    pieces: list[list[tuple[int, int, float]]], first: int | None, last: int | None
) -> None:
    found = rows(points_between(distinct_points([columns(piece) for piece in pieces]), first, last))
    expected = {
        (step, time, bits(value))
        for piece in pieces
        for step, time, value in piece
        if (first is None or first <= step) and (last is None or step <= last)
    }
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [(step, time) for step, time, _ in found] == sorted((step, time) for step, time, _ in expected)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 1), points.filter(bool)), max_size=8),
    st.none() | st.integers(-1, 1),
    st.none() | st.sampled_from("ab"),
)
def test_sources_are_the_attempts_as_they_appeared_and_their_ranks_each_with_its_own_points(
    logged: list[tuple[str, int, list[tuple[int, int, float]]]], rank: int | None, attempt: str | None
) -> None:
    pieces = [SeriesPiece(a, r, 0, columns(some)) for a, r, some in logged]
    found = list(source_histories("r", "k", pieces, HistoryFilter(rank=rank, attempt=attempt)))
    kept = [(a, r, some) for a, r, some in logged if rank in (None, r) and attempt in (None, a)]
    order = list(dict.fromkeys(a for a, _, _ in kept))
    assert [(one.attempt, one.rank) for one in found] == sorted(
        {(a, r) for a, r, _ in kept}, key=lambda name: (order.index(name[0]), name[1])
    )
    for one in found:
        own = [point for a, r, some in kept if (a, r) == (one.attempt, one.rank) for point in some]
        assert rows((one.steps, one.times, one.values)) == rows(distinct_points([columns(own)]))
