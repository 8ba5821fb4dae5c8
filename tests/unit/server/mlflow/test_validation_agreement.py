"""Our checks of names, lengths and batches agree with MLflow's: in what is valid, and in the messages."""

from __future__ import annotations

import json
import re
import string
import urllib.parse
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils import uri, validation

from runfold_server.core.errors import InvalidParameter
from runfold_server.mlflow import validation as limits
from runfold_server.mlflow.registry.webhooks import check_name

# MLflow's patterns end with `$`, which lets one line end through; ours do not.
pieces = st.sampled_from(
    [*string.ascii_letters, *"019_-.:/ ", "..", "./", "/../", "//", "ü", "日", "#", "$", "\t", "\n ", "'"]
)
names = st.lists(pieces, max_size=8).map("".join).filter(lambda name: not name.endswith("\n"))
# Ours show no more than 1000 characters of a value.
long_names = st.builds(lambda name, times: name * times, names, st.sampled_from([1, 1, 1, 60, 130])).filter(
    lambda name: len(json.dumps(name)) <= 1000
)
texts = st.builds(
    lambda text, size: text * size, st.sampled_from(["", "v", "ü"]), st.sampled_from([0, 1, 6000, 6001, 8001, 20_001])
)
int64 = st.integers(-(2**63), 2**63 - 1)


def verdict(call: Callable[[], Any]) -> Any:
    """What a check answers, or the words of its refusal."""
    try:
        return call()
    except (MlflowException, InvalidParameter) as error:
        return f"refused: {error.message}"


def _whole(value: str, theirs: Any) -> Any:
    """MLflow's verdict with the value that it cut: ours is kept whole."""
    return (theirs[0], value) if isinstance(theirs, tuple) else theirs


@given(long_names, st.floats(), int64, int64)
def test_metrics(key: str, value: float, timestamp: int, step: int) -> None:
    theirs = verdict(lambda: validation._validate_metric(key, value, timestamp, step, "metrics[3]"))
    assert verdict(lambda: limits.check_metric(key, value, timestamp, "metrics[3].")) == theirs


@given(long_names, texts)
def test_params(key: str, value: str) -> None:
    theirs = _whole(value, verdict(lambda: _pair(validation._validate_param(key, value, "params[3]"))))
    assert verdict(lambda: limits.check_param(key, value, "params[3].")) == theirs


@given(long_names, texts)
def test_tags_of_runs(key: str, value: str) -> None:
    theirs = _whole(value, verdict(lambda: _pair(validation._validate_tag(key, value, "tags[3]"))))
    assert verdict(lambda: limits.check_tag(key, value, "tags[3].")) == theirs


@given(long_names, texts)
def test_tags_of_experiments(key: str, value: str) -> None:
    theirs = verdict(lambda: validation._validate_experiment_tag(key, value) or (key, value))
    assert verdict(lambda: limits.check_experiment_tag(key, value)) == theirs


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), st.sampled_from([1, 100, 499, 501]))
def test_names_of_experiments(name: str, times: int) -> None:
    name *= times
    theirs = verdict(lambda: validation._validate_experiment_name(name) or name)
    assert verdict(lambda: limits.check_experiment_name(name)) == theirs


@given(st.one_of(names, st.text(max_size=5), st.integers(255, 258).map(lambda size: "r" * size)))
def test_ids_of_runs(run_id: str) -> None:
    if run_id.endswith("\n"):
        return
    theirs = verdict(lambda: validation._validate_run_id(run_id) or run_id)
    assert verdict(lambda: limits.check_run_id(run_id)) == theirs


sizes = st.sampled_from([0, 1, 99, 100, 101, 900, 999, 1000, 1001])


@given(sizes, sizes, sizes)
def test_sizes_of_batches(metrics: int, params: int, tags: int) -> None:
    theirs = verdict(lambda: validation._validate_batch_log_limits(range(metrics), range(params), range(tags)))
    assert verdict(lambda: limits.check_batch(metrics, params, tags)) == theirs


@given(st.lists(st.sampled_from("abc"), max_size=6))
def test_params_of_a_batch_are_unique(keys: list[str]) -> None:
    theirs = verdict(lambda: validation._validate_param_keys_unique([SimpleNamespace(key=key) for key in keys]))
    assert verdict(lambda: limits.check_unique_params(keys)) == theirs


@given(
    st.one_of(st.text(max_size=6), st.integers().map(str), st.sampled_from(["1_0", " 1 ", "\uff11", "+1", "1.0", ""]))
)
def test_ids_of_experiments(text: str) -> None:
    theirs = verdict(lambda: validation._parse_experiment_id(text))
    assert verdict(lambda: limits.parse_experiment_id(text)) == theirs


parts = st.sampled_from(["a", "b/", ";x", "#f", "?", "..", "%2e", "%252e", "=", "&", "/", "x" * 1500])
locations = st.builds(
    "{}{}".format,
    st.sampled_from(
        ["s3://", "mlflow-artifacts:/", "file:///", "runs:/", "runs:", "", "gs://b/", "wasbs://c@h/", "mailto:"]
    ),
    st.lists(parts, max_size=6).map("".join),
).filter(bool)


@given(locations)
def test_artifact_locations(location: str) -> None:
    def theirs() -> str:
        parsed = urllib.parse.urlparse(location)
        if parsed.fragment or parsed.params:
            raise MlflowException("'artifact_location' URL can't include fragments or params.")
        uri.validate_query_string(parsed.query)
        validation._validate_experiment_artifact_location(location)
        validation._validate_experiment_artifact_location_length(location)
        return location

    ours = verdict(lambda: limits.check_artifact_location(location))
    if "must be a plain folder" in ours:
        assert location.startswith("mlflow-artifacts:/")
        assert re.search(r"[?%.]|//", location.removeprefix("mlflow-artifacts:/").strip("/"))
        return
    # The end names a variable that sets the limit there.
    assert ours == verdict(theirs).partition(" To configure")[0]


@pytest.mark.parametrize(
    "location", ["s3://[", "s3://a?//[", "s3://a?%2F%2F[", "s3://a?" + "%25" * 3 + "25" * 40 + "2e"]
)
def test_a_location_that_breaks_mlflows_parser_is_refused(location: str) -> None:
    assert verdict(lambda: limits.check_artifact_location(location)).startswith("refused")


def _pair(entity: Any) -> tuple[str, str]:
    return entity.key, entity.value


webhook_names = st.lists(st.sampled_from([*"aZ09._-<>@#/\\ ü", ""]), max_size=4).map("".join)


@given(st.builds(lambda name, times: name * times, webhook_names, st.sampled_from([1, 1, 16, 21, 63, 64])))
def test_names_of_webhooks(name: str) -> None:
    theirs = verdict(lambda: validation._validate_webhook_name(name))
    assert verdict(lambda: check_name(name) and None) == theirs
