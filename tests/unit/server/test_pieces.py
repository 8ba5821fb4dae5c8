"""Limits, tokens, names, answers and errors: pieces without a network."""

from __future__ import annotations

import json
import math
import socket
from importlib import import_module

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.core.rejection import RejectionCode
from runfold_projections.operations.outcomes import Refused
from runfold_projections.runs.queries import Dataset, LatestMetric, Run
from runfold_projections.series.latest import History
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.experiments import ExperimentDeleted, ExperimentRenamed, ExperimentTagsSet
from runfold_schemas.events.frames import Point
from runfold_schemas.events.runs import ParamsLogged
from runfold_server.app.application import listening_socket
from runfold_server.core.errors import AlreadyExists, ErrorCode, InvalidParameter, NotFound, Unavailable
from runfold_server.mlflow import offset_tokens
from runfold_server.mlflow import validation as limits
from runfold_server.mlflow.answers.metrics import encode_history
from runfold_server.mlflow.answers.runs import encode_run
from runfold_server.mlflow.answers.values import encode_number, encode_page
from runfold_server.mlflow.rejection_errors import as_mlflow_error
from runfold_server.mlflow.tracking.metric_points import metric_events
from runfold_server.writes.writes import Origin, RefusedWrite

RUN = Run(
    run_id="r",
    experiment_id=3,
    name="n",
    user_id="",
    status="RUNNING",
    start_ms=0,
    end_ms=None,
    lifecycle_stage="active",
    artifact_uri="mlflow-artifacts:/3/r/artifacts",
    params={},
    tags={"b": "2", "a": "1"},
    metrics=[LatestMetric("m", math.inf, -1, 5, None, None, None)],
    datasets=[Dataset("d", "x", "local", "{}", None, None, {})],
    models=[],
)


def test_a_run_as_mlflow_shows_it() -> None:
    shown = msgspec.to_builtins(encode_run(RUN))
    assert shown["info"] == {
        "run_uuid": "r",
        "run_id": "r",
        "experiment_id": "3",
        "run_name": "n",
        "user_id": "",
        "status": "RUNNING",
        "start_time": 0,
        "artifact_uri": "mlflow-artifacts:/3/r/artifacts",
        "lifecycle_stage": "active",
    }
    assert shown["data"] == {
        "metrics": [{"key": "m", "value": 1.7976931348623157e308, "timestamp": 5, "step": -1}],
        "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}],
    }
    dataset = {"name": "d", "digest": "x", "source_type": "local", "source": "{}"}
    assert shown["inputs"] == {"dataset_inputs": [{"dataset": dataset}]}
    assert shown["outputs"] == {}


def test_numbers_that_json_lacks() -> None:
    assert encode_number(math.nan) == "NaN"
    assert encode_number(-math.inf) == -1.7976931348623157e308


def test_a_page_of_a_history() -> None:
    rows = History(np.array([1, 2, 3]), np.array([10, 20, 30]), np.array([0.5, math.nan, 1.0]))
    assert msgspec.to_builtins(encode_history("k", rows, 1, 3)) == [
        {"key": "k", "value": "NaN", "timestamp": 20, "step": 2},
        {"key": "k", "value": 1.0, "timestamp": 30, "step": 3},
    ]
    assert encode_page("metrics", [], None) == {}


def test_an_error_as_mlflow_answers_it() -> None:
    assert json.loads(NotFound("Run with id=x not found").body()) == {
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": "Run with id=x not found",
        "sqlstate": "KAM00",
        "error_class": "RESOURCE_NOT_FOUND",
    }
    assert Unavailable("away", 2.4).headers() == {"retry-after": "2"}


def test_errors_have_mlflows_status_and_class() -> None:
    exceptions = import_module("mlflow.exceptions")
    for code in ErrorCode:
        theirs = exceptions.MlflowException("x", exceptions.ErrorCode.Value(code.wire))
        assert theirs.get_http_status_code() == code.status
        body = json.loads(theirs.serialize_as_json())
        assert (body.get("sqlstate", ""), body.get("error_class", "")) == (code.sqlstate, code.error_class)


@given(st.integers(1, 2**53))
def test_tokens_come_back(offset: int) -> None:
    assert offset_tokens.read_token(offset_tokens.make_token(offset)) == offset


def test_tokens_as_mlflow_makes_them() -> None:
    assert offset_tokens.make_token(2) == "eyJvZmZzZXQiOiAyfQ=="


@pytest.mark.parametrize("token", ["zz", "e30=", "W10=", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAxZTk5fQ==", "é"])
def test_tokens_nobody_made(token: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid page token"):
        offset_tokens.read_token(token)


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


def refused(event: Event, code: RejectionCode, **details: object) -> RefusedWrite:
    return RefusedWrite(event, Refused(code.value, "the fold's words", dict(details)))


def test_a_changed_param_in_two_forms() -> None:
    conflict = {"key": "a", "new_value": "2", "old_value": "1"}
    one = refused(ParamsLogged(run_id="r", params={"a": "2"}), RejectionCode.PARAM_CHANGED, conflicts=[conflict])
    assert as_mlflow_error(one, single_param=True).message == (
        "Changing param values is not allowed. Param with key='a' was already logged with value='1' for run ID='r'. "
        "Attempted logging new value '2'."
    )
    assert as_mlflow_error(one).message == (
        "Changing param values is not allowed. Params were already "
        "logged='[{'key': 'a', 'old_value': '1', 'new_value': '2'}]' for run ID='r'."
    )


def test_refusals_depend_on_the_call() -> None:
    code = RejectionCode.EXPERIMENT_NOT_ACTIVE
    assert isinstance(as_mlflow_error(refused(ExperimentDeleted(experiment_id=1), code)), NotFound)
    assert isinstance(as_mlflow_error(refused(ExperimentRenamed(experiment_id=1, name="x"), code)), InvalidParameter)
    assert isinstance(as_mlflow_error(refused(ExperimentTagsSet(experiment_id=1, tags={}), code)), InvalidParameter)
    renamed = refused(ExperimentRenamed(experiment_id=1, name="x"), RejectionCode.EXPERIMENT_EXISTS)
    assert isinstance(as_mlflow_error(renamed), AlreadyExists)


def test_every_rejection_has_an_answer() -> None:
    for code in RejectionCode:
        event: Event = ExperimentDeleted(experiment_id=1)
        if code.value.startswith(("run", "param", "tag")):
            event = ParamsLogged(run_id="r", params={})
        assert as_mlflow_error(refused(event, code)).status < 500


def test_headers_that_enter_the_log_are_checked() -> None:
    good = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x-request-id": "abc"}
    assert Origin.of(good.get) == Origin(correlation_id="abc", traceparent=good["traceparent"])
    assert Origin.of({"traceparent": "x", "x-request-id": "a\tb"}.get) == Origin()


def test_accepted_connections_send_at_once() -> None:
    with listening_socket("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
