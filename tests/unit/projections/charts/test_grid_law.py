"""A chart loses no spike and invents no value, and is exact where points are few."""

import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runfold_projections.charts.grid import COLUMNS, ChartLine, Drawing, XAxis, chart_line, draw_chart, nonfinite

laws = settings(suppress_health_check=[HealthCheck.too_slow])
steps = st.integers(-50, 50) | st.integers(-(2**52), 2**52)
values = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0])
points = st.lists(st.tuples(steps, st.integers(0, 9), values), max_size=60)


def line_of(logged: list[tuple[int, int, float]], kind: XAxis = XAxis.STEP) -> ChartLine:
    steps = np.array([step for step, _, _ in logged], np.int64)
    times = np.array([time for _, time, _ in logged], np.int64)
    values = np.array([value for _, _, value in logged], np.float64)
    half = len(logged) // 2
    pieces = [(steps[part], times[part], values[part]) for part in (slice(half), slice(half, None))]
    return chart_line(pieces, kind)


@laws
@given(points)
def test_a_line_holds_each_point_once_in_the_order_of_x_and_time(logged: list[tuple[int, int, float]]) -> None:
    of = line_of([*logged, *logged[:7]])
    distinct = {(step, time, repr(value)) for step, time, value in logged}
    assert len(of) == len(distinct)
    assert sorted(map(repr, of.values.tolist())) == sorted(value for _, _, value in distinct)
    assert (np.diff(of.x) >= 0).all()


@laws
@given(st.lists(points, max_size=4), st.integers(1, 9))
def test_no_spike_is_lost_and_no_value_invented(logged: list[list[tuple[int, int, float]]], px: int) -> None:
    lines = [line_of(one) for one in logged]
    drawn = draw_chart(lines, Drawing.BAND, px)
    zigzag = draw_chart(lines, Drawing.MINMAX, px)
    for of, (low, high, last), (y,) in zip(lines, drawn.columns, zigzag.columns, strict=True):
        finite = {np.float32(v) for v in of.values.tolist() if math.isfinite(v)}
        shown = {v for column in (low, high, last, y) for v in column.tolist() if math.isfinite(v)}
        assert shown <= finite
        if finite:
            assert np.nanmin(np.where(np.isfinite(low), low, np.nan)) == min(finite)
            assert np.nanmax(np.where(np.isfinite(high), high, np.nan)) == max(finite)
            assert {min(finite), max(finite)} <= set(y.tolist())
    assert len(drawn.x) == (len(drawn.columns[0][0]) if drawn.columns else len(drawn.x))
    assert (np.diff(drawn.x) >= 0).all()
    assert len(zigzag.x) == (len(drawn.x) if zigzag.exact else 2 * px)


@laws
@given(st.lists(points, min_size=1, max_size=3))
def test_few_points_are_shown_as_they_are(logged: list[list[tuple[int, int, float]]]) -> None:
    lines = [line_of(list({step: (step, time, value) for step, time, value in one}.values())) for one in logged]
    drawn = draw_chart(lines, Drawing.LAST, 200)
    assert drawn.exact
    for of, (y,) in zip(lines, drawn.columns, strict=True):
        at = {x: v for x, v in zip(drawn.x.tolist(), y.tolist(), strict=True) if not math.isnan(v)}
        expected = {x: float(np.float32(v)) for x, v in zip(of.x.tolist(), of.values.tolist(), strict=True)}
        assert at == {x: v for x, v in expected.items() if math.isfinite(v)}


def test_the_mean_and_the_last_of_a_bucket() -> None:
    of = ChartLine(np.arange(1000.0), np.arange(1000.0) % 10)
    (mean,), (last,) = (draw_chart([of], shown, 10, (0, 1000)).columns[0] for shown in (Drawing.MEAN, Drawing.LAST))
    assert mean.tolist() == [4.5] * 10
    assert last.tolist() == [9.0] * 10
    assert [len(draw_chart([of], shown, 10).columns[0]) for shown in Drawing] == [
        len(COLUMNS[shown]) for shown in Drawing
    ]


def test_extremes_stand_in_the_order_in_which_they_came() -> None:
    of = ChartLine(np.arange(8.0), np.array([0.0, 5.0, 1.0, 1.0, 7.0, 1.0, -2.0, 0.0]))
    (y,) = draw_chart([of], Drawing.MINMAX, 2, (0, 8)).columns[0]
    assert y.tolist() == [0.0, 5.0, 7.0, -2.0]


def test_what_is_no_number_is_told_apart_and_makes_no_gap_in_its_bucket() -> None:
    of = ChartLine(np.arange(100.0), np.where(np.arange(100) % 10 == 3, np.nan, 1.0))
    of.values[5] = math.inf
    (low, high, _) = draw_chart([of], Drawing.BAND, 10, (0, 100)).columns[0]
    assert low.tolist() == high.tolist() == [1.0] * 10
    assert nonfinite(of)[:2] == [(3.0, "nan"), (5.0, "inf")]


def test_what_float32_can_not_hold_is_its_largest() -> None:
    (y,) = draw_chart([ChartLine(np.array([1.0, 2.0]), np.array([1e300, -1e300]))], Drawing.LAST, 9).columns[0]
    assert y.tolist() == [np.finfo(np.float32).max, np.finfo(np.float32).min]


def test_x_may_be_time() -> None:
    logged = [(5, 2000, 1.0), (4, 3000, 2.0)]
    assert line_of(logged, XAxis.WALL).x.tolist() == [2000.0, 3000.0]
    assert chart_line([(np.array([5]), np.array([2000]), np.array([1.0]))], XAxis.RELATIVE, 500).x.tolist() == [1.5]
