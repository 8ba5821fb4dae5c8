"""Names, values and batch sizes that requests may have."""

from __future__ import annotations

from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.events.frames import Point
from runfold_server.core.errors import InvalidParameter
from runfold_server.mlflow import validation as limits
from runfold_server.mlflow.tracking.metric_points import metric_events


@pytest.mark.parametrize("name", ["../x", "/x", "x/", "a//b", ".", "", "a/../b", "a;b", "ä;", "a\nb"])
def test_names_refused_as_by_mlflow(name: str) -> None:
    validation = import_module("mlflow.utils.validation")
    with pytest.raises(validation.MlflowException) as theirs:
        validation._validate_param_name(name)
    with pytest.raises(InvalidParameter) as ours:
        limits.check_name(name, "key")
    assert ours.value.message == theirs.value.message


@given(st.text(max_size=12))
def test_names_are_taken_where_mlflow_takes_them(name: str) -> None:
    validation = import_module("mlflow.utils.validation")
    try:
        validation._validate_param_name(name)
        taken = True
    except validation.MlflowException:
        taken = False
    # MLflow's expression ends in $, which lets one newline pass at the end.
    if name.endswith("\n"):
        return
    if taken:
        assert limits.check_name(name, "key") == name
    else:
        with pytest.raises(InvalidParameter):
            limits.check_name(name, "key")


def test_long_values_are_kept_whole_or_refused() -> None:
    longest = "x" * limits.MAX_LONG_VALUE
    assert limits.check_param("k", longest) == ("k", longest)
    assert limits.check_tag("k", longest) == ("k", longest)
    with pytest.raises(InvalidParameter, match="'Param value' exceeds the maximum length of 524288 characters"):
        limits.check_param("k", longest + "x")
    with pytest.raises(InvalidParameter, match="'value' exceeds the maximum length of 524288 characters"):
        limits.check_tag("k", longest + "x")
    with pytest.raises(InvalidParameter, match="'Param key' exceeds the maximum length of 250 characters"):
        limits.check_param("k" * 251, "")


def test_batches_are_bounded() -> None:
    limits.check_batch(800, 100, 100)
    with pytest.raises(
        InvalidParameter, match=r"A batch logging request can contain at most 100 params\. Got 101 params\."
    ):
        limits.check_batch(0, 101, 0)
    with pytest.raises(InvalidParameter, match=r"at most 1000 metrics, params, and tags\. Got 1001"):
        limits.check_batch(901, 100, 0)
    with pytest.raises(InvalidParameter, match=r"Duplicate parameter keys have been submitted: \['b'\]"):
        limits.check_unique_params(["a", "b", "b"])


def test_metrics_of_one_request_stay_below_a_frame() -> None:
    assert [e.points for e in metric_events("r", [Point("k", 1.0, i, i) for i in range(1000)])] == [1000]
    wide = list(metric_events("r", [Point(f"{i:04}" + "ä" * 246, 1.0, 0, 0) for i in range(1000)]))
    assert sum(e.points for e in wide) == 1000
    assert len(wide) > 1
