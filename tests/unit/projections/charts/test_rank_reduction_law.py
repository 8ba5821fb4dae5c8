"""Histories reduced over ranks, against a model that loops over the points."""

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.charts.rank_reduction import reduced
from runfold_projections.segments.distinct_points import Columns
from runfold_schemas.events.rank_reduction import Reduction, reduction_of

LARGEST = 1.7976931348623157e308
Logged = tuple[int, int, float]
"""Step, time and value."""

values = st.floats() | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, LARGEST, -LARGEST])
steps = st.integers(-2, 3) | st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
points = st.lists(st.tuples(steps, st.integers(0, 2), values), max_size=6)
ranks = st.dictionaries(st.integers(-1, 4), st.lists(points, min_size=1, max_size=3), min_size=1, max_size=5)
reductions = st.sampled_from([one for one in Reduction if one is not Reduction.ALL])


def columns(logged: list[Logged]) -> Columns:
    return (
        np.array([step for step, _, _ in logged], np.int64),
        np.array([time for _, time, _ in logged], np.int64),
        np.array([value for _, _, value in logged], np.float64),
    )


def in_order(point: Logged) -> tuple[object, ...]:
    """Of a step's points in MLflow's histories; equal ones by their bits."""
    _, time, value = point
    nan = math.isnan(value)
    return time, 0.0 if nan else value, nan, struct.unpack("<q", struct.pack("<d", value))


def naive(logged: dict[int, list[list[Logged]]], reduction: Reduction) -> list[tuple[int, int, float | Fraction]]:
    last: dict[int, dict[int, Logged]] = {}
    for rank, pieces in logged.items():
        for point in sorted((point for piece in pieces for point in piece), key=in_order):
            last.setdefault(point[0], {})[rank] = point
    found: list[tuple[int, int, float | Fraction]] = []
    for step, of_ranks in sorted(last.items()):
        _, first_time, first = of_ranks[min(of_ranks)]
        newest = max(time for _, time, _ in of_ranks.values())
        some = sorted(Fraction(value) for _, _, value in of_ranks.values() if math.isfinite(value))
        if reduction is Reduction.FIRST:
            found.append((step, first_time, first))
        else:
            found.append((step, newest, of(some, reduction) if some else first))
    return found


def of(some: list[Fraction], reduction: Reduction) -> Fraction:
    middle = len(some) // 2
    match reduction:
        case Reduction.MEAN:
            return sum(some, Fraction()) / len(some)
        case Reduction.SUM:
            return sum(some, Fraction())
        case Reduction.MEDIAN:
            return some[middle] if len(some) % 2 else (some[middle - 1] + some[middle]) / 2
        case Reduction.MIN:
            return some[0]
        case _:
            return some[-1]


def alike(value: float, expected: float | Fraction, largest: float) -> bool:
    if isinstance(expected, float):
        return value == expected or (math.isnan(value) and math.isnan(expected))
    if abs(expected) > Fraction(LARGEST) * (1 - Fraction(1, 10**12)):
        return abs(value) >= LARGEST * (1 - 1e-11) and (value > 0) == (expected > 0)
    return math.isfinite(value) and abs(Fraction(value) - expected) <= Fraction(largest) * Fraction(1, 10**14)


@given(ranks, reductions)
def test_a_reduced_history_is_what_a_loop_over_the_points_gives(
    logged: dict[int, list[list[Logged]]], reduction: Reduction
) -> None:
    found = reduced({rank: [columns(piece) for piece in pieces] for rank, pieces in logged.items()}, reduction)
    assert [column.dtype for column in found] == ["int64", "int64", "float64"]
    expected = naive(logged, reduction)
    rows = list(zip(*(column.tolist() for column in found), strict=True))
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    every = [value for pieces in logged.values() for piece in pieces for _, _, value in piece]
    largest = max((abs(value) for value in every if math.isfinite(value)), default=0.0)
    for (_, _, value), (step, _, wanted) in zip(rows, expected, strict=True):
        assert alike(value, wanted, largest), (step, value, wanted)


@given(points.filter(bool), reductions)
def test_one_rank_alone_keeps_its_values(logged: list[Logged], reduction: Reduction) -> None:
    """Also NaN and infinities: nothing is left out."""
    found = reduced({3: [columns(logged)]}, reduction)
    expected = naive({3: [logged]}, Reduction.FIRST)
    for row, (step, time, value) in zip(
        zip(*(column.tolist() for column in found), strict=True), expected, strict=True
    ):
        assert row[:2] == (step, time)
        assert alike(row[2], value, 0.0)


@pytest.mark.parametrize("value", [None, "", "all", "avg", "MEAN", "mean "])
def test_what_is_no_reduction_shows_all_points(value: str | None) -> None:
    assert reduction_of(value) is Reduction.ALL
    assert [reduction_of(one) for one in Reduction] == list(Reduction)
