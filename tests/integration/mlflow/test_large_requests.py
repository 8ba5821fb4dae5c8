"""Requests within MLflow's limits are accepted however many bytes their texts have, and values come back unchanged."""

import itertools
import json
from typing import Any

import httpx2
import pytest

from tests.support.mlflow.caller import Caller

_names = itertools.count()


@pytest.fixture
def run_id(call: Caller) -> str:
    experiment = call.experiment(f"large requests {next(_names)}")
    return str(call.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"])


def _tags(entity: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in entity["tags"]}


def _pairs(count: int, value: str) -> list[dict[str, str]]:
    return [{"key": f"k{n}", "value": value} for n in range(count)]


def test_a_list_that_the_client_keeps_in_a_tag_stays_json(call: Caller, run_id: str) -> None:
    # `log_table` appends to this list; cut at 8000 characters, each later call in the run fails.
    value = json.dumps([{"path": f"tables/{n}.json", "type": "table"} for n in range(400)])
    assert len(value) > 8000
    call.post("runs/set-tag", run_id=run_id, key="mlflow.loggedArtifacts", value=value)
    shown = _tags(call.get("runs/get", run_id=run_id)["run"]["data"])
    assert json.loads(shown["mlflow.loggedArtifacts"])[-1]["path"] == "tables/399.json"


def test_long_params_and_tags_are_whole_by_every_call(call: Caller) -> None:
    long = "x" * 20_000
    experiment = call.experiment(f"large requests {next(_names)}")
    run = call.post("runs/create", experiment_id=experiment, tags=[{"key": "created", "value": long}])["run"]
    run_id = run["info"]["run_id"]
    call.post("runs/log-parameter", run_id=run_id, key="single", value=long)
    call.post("runs/log-parameter", run_id=run_id, key="single", value=long)
    call.post("runs/log-batch", run_id=run_id, params=[{"key": "batch", "value": long}], tags=_pairs(1, long))
    data = call.get("runs/get", run_id=run_id)["run"]["data"]
    assert {param["key"]: param["value"] for param in data["params"]} == {"single": long, "batch": long}
    assert {key: value for key, value in _tags(data).items() if key != "mlflow.runName"} == {
        "created": long,
        "k0": long,
    }
    found = call.post("runs/search", experiment_ids=[experiment], filter=f"params.single = '{long}'")["runs"]
    assert [one["info"]["run_id"] for one in found] == [run_id]


@pytest.mark.parametrize("letter", ["ü", "模"])
def test_a_full_batch_of_letters_of_several_bytes(call: Caller, run_id: str, letter: str) -> None:
    call.post("runs/log-batch", run_id=run_id, params=_pairs(100, letter * 6000), tags=_pairs(100, letter * 8000))
    data = call.get("runs/get", run_id=run_id)["run"]["data"]
    assert {param["value"] for param in data["params"]} == {letter * 6000}
    assert sum(tag["value"] == letter * 8000 for tag in data["tags"]) == 100


def test_data_sets_of_thousands_of_columns(call: Caller, run_id: str) -> None:
    schema = json.dumps({"mlflow_colspec": [{"type": "double", "name": "c" * 60 + str(n)} for n in range(7000)]})
    datasets = [
        {
            "dataset": {"name": f"d{n}", "digest": "1", "source_type": "local", "source": "s", "schema": schema},
            "tags": [],
        }
        for n in range(2)
    ]
    call.post("runs/log-inputs", run_id=run_id, datasets=datasets)
    inputs = call.get("runs/get", run_id=run_id)["run"]["inputs"]["dataset_inputs"]
    assert [one["dataset"]["schema"] for one in inputs] == [schema, schema]


def test_an_experiment_and_a_run_with_many_long_tags(call: Caller) -> None:
    tags = _pairs(250, "x" * 20_000)
    experiment = call.post("experiments/create", name=f"large requests {next(_names)}", tags=tags)["experiment_id"]
    assert len(call.get("experiments/get", experiment_id=experiment)["experiment"]["tags"]) == 250
    run = call.post("runs/create", experiment_id=experiment, tags=_pairs(200, "模" * 8000))["run"]
    shown = call.get("runs/get", run_id=run["info"]["run_id"])["run"]["data"]
    assert sum(tag["value"] == "模" * 8000 for tag in shown["tags"]) == 200


def test_a_model_with_a_description_of_a_megabyte(call: Caller) -> None:
    name, description = f"large {next(_names)}", "d" * 1_200_000
    call.post("registered-models/create", name=name, description=description)
    assert call.get("registered-models/get", name=name)["registered_model"]["description"] == description


def test_what_is_larger_than_a_request_may_be_is_refused_in_the_callers_words(
    client: httpx2.Client, run_id: str
) -> None:
    body = {"run_id": run_id, "key": "k", "value": "x" * (9 * 1024 * 1024)}
    answer = client.post("/api/2.0/mlflow/runs/set-tag", json=body)
    assert answer.status_code == 413
    assert "at most 8388608 are allowed" in answer.json()["message"]
    answer = client.post("/api/2.0/mlflow/runs/set-tag", json=body | {"value": "x" * 600_000})
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "'value' exceeds the maximum length of 524288 characters",
    )
