"""Aggregates and smoothing against models that loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runfold_projections.charts.aggregates import Spread, aggregate_chart
from runfold_projections.charts.grid import ChartLine, Drawing, bucket_edges, chart_line_along, draw_chart
from runfold_projections.charts.smoothing import Smoothing, smooth_values

laws = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
values = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, -math.inf])
points = st.lists(st.tuples(st.integers(-20, 20), values), max_size=30)
groups = st.lists(st.lists(points, min_size=1, max_size=4), min_size=1, max_size=3)
QUANTILES = (0.0, 0.25, 0.5, 0.9, 1.0)
SPREAD = Spread(quantiles=QUANTILES)


def line_of(logged: list[tuple[int, float]]) -> ChartLine:
    ordered = sorted(logged, key=lambda point: point[0])
    return ChartLine(np.array([float(x) for x, _ in ordered]), np.array([float(v) for _, v in ordered]))


def naive(members: list[list[float]]) -> list[float]:
    """Columns of one cell: `members` are the finite values of each member there."""
    some = [own for own in members if own]
    if not some:
        return [math.nan, math.nan, math.nan, math.nan, math.nan, 0, *[math.nan] * len(QUANTILES)]
    means = np.array([np.mean(own) for own in some])
    spread = [means.mean(), means.std(), means.std() / np.sqrt(len(means))]
    extremes = [min(map(min, some)), max(map(max, some)), len(means)]
    return [*spread, *extremes, *np.quantile(means, QUANTILES)]


def check(found: list[list[np.ndarray]], expected: list[list[list[float]]]) -> None:
    for own, cells in zip(found, expected, strict=True):
        assert [len(column) for column in own] == [len(cells)] * len(SPREAD.columns)
        np.testing.assert_allclose(np.array(own).T, np.array(cells).reshape(-1, len(own)), rtol=1e-9, atol=1e-6)


@laws
@given(groups)
def test_an_aggregate_at_each_x_is_that_of_the_members_means_there(logged: list[list[list[tuple[int, float]]]]) -> None:
    lines = [[line_of(member) for member in group] for group in logged]
    drawn = aggregate_chart(lines, SPREAD, None)
    xs = sorted({x for group in logged for member in group for x, _ in member})
    assert drawn.exact
    assert drawn.x.tolist() == xs
    expected = [
        [naive([[v for at, v in member if at == x and math.isfinite(v)] for member in group]) for x in xs]
        for group in logged
    ]
    check(drawn.columns, expected)


@laws
@given(groups, st.integers(1, 5))
def test_an_aggregate_in_buckets_is_that_of_the_members_means_in_each(
    logged: list[list[list[tuple[int, float]]]], px: int
) -> None:
    lines = [[line_of(member) for member in group] for group in logged]
    drawn = aggregate_chart(lines, SPREAD, px, (-20.0, 20.0))
    if drawn.exact:
        assert len(drawn.x) <= 2 * px
        return
    edges = bucket_edges(-20.0, 20.0, px)
    cell = [min(px - 1, int(np.searchsorted(edges[1:-1], x, "right"))) for x in range(-20, 21)]
    expected = [
        [
            naive([[v for at, v in member if cell[at + 20] == n and math.isfinite(v)] for member in group])
            for n in range(px)
        ]
        for group in logged
    ]
    check(drawn.columns, expected)


def test_small_differences_of_large_values_keep_their_spread() -> None:
    lines = [ChartLine(np.array([0.0]), np.array([1e9 + n])) for n in range(4)]
    (mean, sd) = aggregate_chart([lines], Spread(("mean", "sd")), None).columns[0]
    assert mean.tolist() == [1e9 + 1.5]
    assert sd.tolist() == pytest.approx([np.std(range(4))])


def naive_smooth(x: list[float], y: list[float], kind: Smoothing, v: float) -> list[float]:
    finite = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    out = []
    if kind is Smoothing.TW_EMA:
        # As W&B's page gives it, with its viewport scale of 1000.
        span = (finite[-1][0] - finite[0][0]) if finite else 0
        weight, last, debias = min(math.sqrt(v), 0.999), 0.0, 0.0
        for n, (at, value) in enumerate(finite):
            change = (at - finite[max(n - 1, 0)][0]) / (span or 1) * 1000
            adjusted = weight**change if n else 0.0
            last, debias = last * adjusted + value, debias * adjusted + 1
            out.append(last / debias)
    else:
        reach = max(1, math.ceil(3 * v)) if kind is Smoothing.GAUSS else int(v) // 2
        for n in range(len(finite)):
            near = range(max(0, n - reach), min(len(finite), n + reach + 1))
            weights = [math.exp(-0.5 * ((m - n) / max(v, 1e-9)) ** 2) if kind is Smoothing.GAUSS else 1.0 for m in near]
            out.append(sum(w * finite[m][1] for w, m in zip(weights, near, strict=True)) / sum(weights))
    rest = iter(out)
    return [next(rest) if math.isfinite(value) else math.nan for value in y]


@laws
@given(
    points, st.sampled_from([Smoothing.TW_EMA, Smoothing.GAUSS, Smoothing.MEAN]), st.floats(0, 0.99) | st.integers(1, 9)
)
def test_smoothing_is_what_a_loop_over_all_points_gives(
    logged: list[tuple[int, float]], kind: Smoothing, v: float
) -> None:
    if kind is Smoothing.TW_EMA:
        v = min(v, 0.99)
    of = line_of(logged)
    found = smooth_values(of.x, of.values, kind, v)
    np.testing.assert_allclose(found, naive_smooth(of.x.tolist(), of.values.tolist(), kind, v), rtol=1e-6, atol=1e-3)


def test_smoothing_off_leaves_the_values() -> None:
    assert smooth_values(np.arange(3.0), np.array([1.0, 5.0, 2.0]), Smoothing.OFF, 0).tolist() == [1.0, 5.0, 2.0]


@laws
@given(points, st.integers(1, 6), st.sampled_from(list(Drawing)))
def test_a_bucket_shows_the_smoothed_value_of_its_last_number(
    logged: list[tuple[int, float]], px: int, shown: Drawing
) -> None:
    of = line_of(logged)
    of = ChartLine(of.x, of.values, smooth_values(of.x, of.values, Smoothing.MEAN, 3))
    drawn = draw_chart([of], shown, px, (-20.0, 20.0))
    column = drawn.columns[0][-1]
    assert len(column) == len(drawn.x)
    if drawn.exact:
        return
    edges = bucket_edges(-20.0, 20.0, px)
    expected = [math.nan] * px
    assert of.smooth is not None
    for x, value in zip(of.x.tolist(), of.smooth.tolist(), strict=True):
        if math.isfinite(value):
            expected[int(np.searchsorted(edges[1:-1], x, "right"))] = float(np.float32(value))
    if shown is Drawing.MINMAX:
        expected = [value for value in expected for _ in range(2)]
    np.testing.assert_equal(column.tolist(), expected)


def test_x_may_be_another_metric_as_it_was_at_or_before_each_step() -> None:
    def columns(points: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        steps = np.array([step for step, _ in points], np.int64)
        return steps, steps, np.array([value for _, value in points], np.float64)

    loss = columns([(0, 9.0), (1, 5.0), (2, 4.0), (3, 3.0), (6, 2.0)])
    epoch = columns([(1, 0.5), (3, 1.5), (5, math.nan)])
    along = chart_line_along([loss], [epoch])
    assert list(zip(along.x.tolist(), along.values.tolist(), strict=True)) == [(0.5, 5.0), (0.5, 4.0), (1.5, 3.0)]
    falling = chart_line_along([loss], [columns([(0, 3.0), (2, 1.0)])])
    assert list(zip(falling.x.tolist(), falling.values.tolist(), strict=True)) == [
        (1.0, 4.0),
        (1.0, 3.0),
        (1.0, 2.0),
        (3.0, 9.0),
        (3.0, 5.0),
    ]
    assert len(chart_line_along([loss], [])) == 0
