"""Versions and logged models name existing runs and models, and models get names that a URI can contain."""

from __future__ import annotations

import itertools

import httpx2
import pytest

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.events.registered_models import RegisteredModelCreated
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import outgoing
from tests.support.mlflow.caller import API, Caller

NOBODY = "0" * 32
NO_MODEL = "m-" + "0" * 32
_numbers = itertools.count()


@pytest.fixture
def name(caller: Caller) -> str:
    name = f"refers-{next(_numbers)}"
    caller.post("registered-models/create", name=name)
    return name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"source": f"runs:/{NOBODY}/m", "run_id": NOBODY}, f"Run with id={NOBODY} not found"),
        ({"source": "s3://b/m", "run_id": NOBODY}, f"Run with id={NOBODY} not found"),
        ({"source": "s3://b/m", "model_id": NO_MODEL}, f"Logged model with ID '{NO_MODEL}' not found."),
        ({"source": "s3://b/m", "model_id": "m-1"}, "Logged model with ID 'm-1' not found."),
        (
            {"source": f"models:/{NO_MODEL}", "model_id": NO_MODEL, "run_id": "label"},
            f"Logged model with ID '{NO_MODEL}' not found.",
        ),
    ],
)
def test_a_version_of_what_is_not_there_is_refused(
    caller: Caller, name: str, body: dict[str, str], message: str
) -> None:
    refused = caller.post("model-versions/create", 404, name=name, **body)
    assert (refused["error_code"], refused["message"]) == ("RESOURCE_DOES_NOT_EXIST", message)
    assert caller.get("model-versions/search", filter=f"name = '{name}'") == {}


def test_prompts_too(caller: Caller, name: str) -> None:
    tags = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    caller.post("model-versions/create", 404, name=name, source="dummy-source", run_id=NOBODY, tags=tags)


def test_a_model_and_its_run_that_are_there_are_taken(caller: Caller, name: str) -> None:
    run = caller.run()
    caller.post("model-versions/create", name=name, source=f"runs:/{run}/m", run_id=run)
    model_id = caller.post("logged-models", experiment_id="0", source_run_id=run)["model"]["info"]["model_id"]
    body = {"source": "s3://b/m", "model_id": model_id}
    assert caller.post("model-versions/create", name=name, **body)["model_version"]["run_id"] == run
    caller.post("runs/delete", run_id=run)
    caller.post("model-versions/create", name=name, source="s3://b/m", run_id=run)


def test_runs_of_another_server_are_named_with_a_link_to_them(caller: Caller, name: str) -> None:
    made = caller.post("model-versions/create", name=name, source="s3://b/m", run_id=NOBODY, run_link="https://there/1")
    assert made["model_version"]["run_id"] == NOBODY
    copy = caller.post("model-versions/create", name=name, source=f"models:/{name}/1", run_id=NOBODY)
    assert copy["model_version"]["source"] == f"models:/{name}/1"


def test_what_is_no_id_of_a_tracker_is_a_label(caller: Caller, name: str) -> None:
    made = caller.post("model-versions/create", name=name, source="runs:/my_run/m", run_id="my_run")
    assert made["model_version"]["run_id"] == "my_run"


def test_a_logged_model_of_a_run_that_is_not_there_is_refused(caller: Caller) -> None:
    refused = caller.post("logged-models", 404, experiment_id="0", source_run_id=NOBODY)
    assert refused["message"] == f"Run with id={NOBODY} not found"


@pytest.mark.parametrize("name_", ["a@b", "a?b", "a#b", "a\nb", "a\tb", "a%2Fb"])
def test_a_name_that_no_uri_can_hold_is_refused(caller: Caller, name: str, name_: str) -> None:
    for path, body in (("create", {"name": name_}), ("rename", {"name": name, "new_name": name_})):
        refused = caller.post(f"registered-models/{path}", 400, **body)
        assert refused["message"].startswith(f"Invalid model name {name_!r}.")
    assert caller.get("registered-models/get", name=name)["registered_model"]["name"] == name


def test_a_model_that_has_such_a_name_can_be_read_changed_and_renamed(client: httpx2.Client, caller: Caller) -> None:
    event = outgoing(Topic.REGISTRY, RegisteredModelCreated(name="old@name?#"), writer="old names")
    headers = {"content-type": CONTENT_TYPE}
    assert client.post("/api/runfold/v1/events?wait=outcome", content=encode_batch([event]), headers=headers).is_success
    assert caller.get("registered-models/get", name="old@name?#")["registered_model"]["name"] == "old@name?#"
    caller.post("model-versions/create", name="old@name?#", source="s3://b/m")
    caller.post("registered-models/set-tag", name="old@name?#", key="k", value="v")
    assert client.get(f"{API}model-versions/get", params={"name": "old@name?#", "version": "1"}).is_success
    caller.post("registered-models/rename", name="old@name?#", new_name="old name")
    assert caller.get("registered-models/get", name="old name")["registered_model"]["tags"] == [
        {"key": "k", "value": "v"}
    ]
