"""What runs/log-model makes of a model, and which points of a history a page draws."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.models import Model

from runfold_projections.series.latest import MetricHistory
from runfold_schemas.events.runs import ModelLogged
from runfold_server.core.errors import InvalidParameter
from runfold_server.mlflow.logged_models.log_model import summarize_model
from runfold_server.mlflow.tracking.metric_history_bulk import sampled

texts = st.text(st.characters(codec="utf-8"), max_size=5)
leaves = st.none() | st.booleans() | st.integers(-9, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
models = st.fixed_dictionaries(
    {
        "artifact_path": st.none() | texts,
        "run_id": st.none() | texts,
        "utc_time_created": st.text(min_size=1, max_size=30),
        "flavors": st.none() | st.dictionaries(texts | st.just("config"), anything, max_size=3),
    },
    optional={"model_uuid": st.none() | texts, "metadata": anything, "unknown": anything},
)


@given(models)
def test_a_model_is_told_as_mlflow_tells_it(model: dict[str, Any]) -> None:
    theirs = Model.from_dict(model).get_tags_dict()
    ours = summarize_model(json.dumps(model))
    assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    assert json.loads(ModelLogged(run_id="r", model=json.dumps(ours)).model) == ours


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Malformed model info. \n { \n is not a valid JSON."),
        ("[]", "Malformed model info. \n [] \n is not a valid JSON."),
        ('{"a": NaN}', "is not a valid JSON"),
        ('{"a": 1e999}', "is not a valid JSON"),
        ('{"a": "\\ud800"}', "is not a valid JSON"),
        ("[" * 100_000, "is not a valid JSON"),
        ('{"flavors": {}}', "missing mandatory fields: {'artifact_path', 'run_id', 'utc_time_created'}"),
        (
            '{"artifact_path": "m", "run_id": "r", "utc_time_created": "now", "flavors": 3}',
            "flavors must be an object",
        ),
    ],
)
def test_what_is_no_model_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        summarize_model(text)
    assert message in refused.value.message


points = st.lists(
    st.tuples(st.integers(-3, 6), st.integers(0, 2), st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf])),
    unique_by=lambda p: (p[0], p[1], str(p[2])),
    max_size=40,
)


def ntile(rows: list[Any], limit: int) -> list[Any]:
    """MLflow's `_sample_rows_with_window_functions`, in small steps."""
    buckets: list[list[Any]] = [[] for _ in range(limit)]
    size, larger = divmod(len(rows), limit)
    at = 0
    for number, bucket in enumerate(buckets):
        length = size + (number < larger)
        bucket += rows[at : at + length]
        at += length
    found = [bucket[0] for bucket in buckets if bucket]
    if rows and found[-1] != rows[-1]:
        if len(found) >= limit:
            found[-1] = rows[-1]
        else:
            found.append(rows[-1])
    return found


@given(points, st.integers(1, 12), st.none() | st.tuples(st.integers(-4, 7), st.integers(-4, 7)))
def test_a_sample_is_that_of_mlflows_sql(
    given_points: list[tuple[int, int, float]], limit: int, steps: tuple[int, int] | None
) -> None:
    start, end = sorted(steps) if steps else (None, None)
    rows = MetricHistory(
        np.array([p[0] for p in given_points], np.int64),
        np.array([p[1] for p in given_points], np.int64),
        np.array([p[2] for p in given_points], np.float64),
    )
    inside = [i for i, p in enumerate(given_points) if start is None or end is None or start <= p[0] <= end]

    def stored(i: int) -> tuple[int, int, float, bool]:
        step, time_ms, value = given_points[i]
        return step, time_ms, 0.0 if math.isnan(value) else value, math.isnan(value)

    assert sampled(rows, limit, start, end).tolist() == ntile(sorted(inside, key=stored), limit)
