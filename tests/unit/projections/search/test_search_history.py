"""The order and the distinctness of a history, against a plain definition."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.series.latest import distinct

Point = tuple[int, int, float]
few = st.integers(-2, 2)
points = st.tuples(few, few, st.sampled_from([0.0, -0.0, 1.5, -1.5, math.nan, -math.nan, math.inf, -math.inf]))


def place(point: Point) -> tuple[int, int, float, bool]:
    """Where a point stands: NaN where MLflow's store keeps it, as 0 with a mark."""
    step, time, value = point
    return time, step, 0.0 if math.isnan(value) else value, math.isnan(value)


@given(st.lists(st.lists(points, max_size=8), max_size=4))
def test_each_point_is_there_once_and_in_order(parts: list[list[Point]]) -> None:
    columns = [
        (
            np.array([p[0] for p in part], np.int64),
            np.array([p[1] for p in part], np.int64),
            np.array([p[2] for p in part], np.float64),
        )
        for part in parts
    ]
    found = distinct(columns)
    shown = [place(p) for p in zip(found.steps.tolist(), found.times.tolist(), found.values.tolist(), strict=True)]
    assert shown == sorted({place(point) for part in parts for point in part})
    assert len(found) == len(shown)
