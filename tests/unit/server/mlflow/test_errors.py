"""Errors and rejections as MLflow answers them."""

from __future__ import annotations

import json
from importlib import import_module

from runfold_projections.catalog import rejection_meanings
from runfold_projections.core.rejection import RejectionCode
from runfold_projections.experiments.rejections import ExperimentRejection
from runfold_projections.operations.outcomes import RejectedEvent
from runfold_projections.runs.rejections import RunRejection
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.experiments import ExperimentDeleted, ExperimentRenamed, ExperimentTagsSet
from runfold_schemas.events.runs import ParamsLogged
from runfold_server.core.errors import AlreadyExists, ErrorCode, InvalidParameter, NotFound, Unavailable
from runfold_server.mlflow.rejection_errors import as_mlflow_error
from runfold_server.writes.writes import RejectedWrite


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


def refused(event: Event, code: RejectionCode, **details: object) -> RejectedWrite:
    return RejectedWrite(event, RejectedEvent(code.value, "the fold's words", dict(details)))


def test_a_changed_param_in_two_forms() -> None:
    conflict = {"key": "a", "new_value": "2", "old_value": "1"}
    one = refused(ParamsLogged(run_id="r", params={"a": "2"}), RunRejection.PARAM_CHANGED, conflicts=[conflict])
    assert as_mlflow_error(one, single_param=True).message == (
        "Changing param values is not allowed. Param with key='a' was already logged with value='1' for run ID='r'. "
        "Attempted logging new value '2'."
    )
    assert as_mlflow_error(one).message == (
        "Changing param values is not allowed. Params were already "
        "logged='[{'key': 'a', 'old_value': '1', 'new_value': '2'}]' for run ID='r'."
    )


def test_refusals_depend_on_the_call() -> None:
    code = ExperimentRejection.NOT_ACTIVE
    assert isinstance(as_mlflow_error(refused(ExperimentDeleted(experiment_id=1), code)), NotFound)
    assert isinstance(as_mlflow_error(refused(ExperimentRenamed(experiment_id=1, name="x"), code)), InvalidParameter)
    assert isinstance(as_mlflow_error(refused(ExperimentTagsSet(experiment_id=1, tags={}), code)), InvalidParameter)
    renamed = refused(ExperimentRenamed(experiment_id=1, name="x"), ExperimentRejection.EXISTS)
    assert isinstance(as_mlflow_error(renamed), AlreadyExists)


def test_every_rejection_has_an_answer() -> None:
    assert rejection_meanings()
    for code in rejection_meanings():
        event: Event = ExperimentDeleted(experiment_id=1)
        if code.value.startswith(("run", "param", "tag")):
            event = ParamsLogged(run_id="r", params={})
        assert as_mlflow_error(refused(event, code)).status < 500
