"""Promotions over HTTP, from the SDK and from the command line, on real Kafka and Postgres."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

import runfold
from tests.support.installations.server_pair import ServerPair

MLFLOW = "/api/2.0/mlflow/"
PROMOTE = "/api/runfold/v1/models:promote"


@pytest.fixture
def client(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client() as made:
        yield made


def model(client: httpx2.Client, name: str, versions: int) -> None:
    assert client.post(f"{MLFLOW}registered-models/create", json={"name": name}).status_code == 200
    for _ in range(versions):
        created = client.post(f"{MLFLOW}model-versions/create", json={"name": name, "source": "s3://b/m"})
        assert created.status_code == 200


def read(client: httpx2.Client, name: str) -> Any:
    return client.get(f"/api/runfold/v1/models/{name}").json()


def test_aliases_and_stages_of_several_models_move_together(client: httpx2.Client) -> None:
    model(client, "churn", 3)
    model(client, "fraud", 2)
    first = client.post(
        PROMOTE,
        json={
            "conditions": [{"name": "churn", "alias": "prod"}, {"name": "fraud", "version": 2, "stage": "None"}],
            "moves": [
                {"name": "churn", "alias": "prod", "version": 2, "stage": "Production"},
                {"name": "fraud", "alias": "prod", "version": 2},
            ],
            "comment": "both agreed",
        },
    )
    assert first.status_code == 200, first.text
    assert {one["name"]: one["aliases"] for one in first.json()["models"]} == {
        "churn": {"prod": 2},
        "fraud": {"prod": 2},
    }
    shown = read(client, "churn")
    assert shown["model"]["aliases"] == {"prod": 2}
    assert [(one["version"], one["stage"], one["aliases"]) for one in shown["versions"]] == [
        (3, "None", []),
        (2, "Production", ["prod"]),
        (1, "None", []),
    ]
    where, _, offset = first.json()["position"].rpartition(":")
    assert shown["positions"][where] > int(offset)


def test_a_condition_that_does_not_hold_is_named_and_nothing_moves(client: httpx2.Client) -> None:
    model(client, "kept", 2)
    client.post(f"{MLFLOW}registered-models/alias", json={"name": "kept", "alias": "prod", "version": "1"})
    before = read(client, "kept")["versions"]
    refused = client.post(
        PROMOTE,
        json={
            "conditions": [
                {"name": "kept", "alias": "prod", "version": 1},
                {"name": "kept", "alias": "shadow", "version": 7},
            ],
            "moves": [{"name": "kept", "alias": "prod", "version": 2, "stage": "Production"}],
        },
    )
    assert refused.status_code == 409
    told = refused.json()
    assert told["error_code"] == "RESOURCE_CONFLICT"
    assert told["message"] == (
        "Nothing was promoted: condition 1 failed: @shadow of 'kept' was to stand on version 7, but it is not set"
    )
    assert [(one["condition"], one["alias"], one["found"]) for one in told["failed"]] == [(1, "shadow", None)]
    assert read(client, "kept")["versions"] == before


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "Missing value for required parameter 'moves'"),
        ({"moves": []}, 400, "'moves'"),
        ({"moves": [{"name": "x"}]}, 400, "a move names an alias, a stage, or both"),
        ({"moves": [{"name": "x", "stage": "Staging"}]}, 400, "name it"),
        ({"moves": [{"name": "x", "alias": "latest", "version": 1}]}, 400, "must not be latest"),
        ({"moves": [{"name": "nobody", "alias": "prod", "version": 1}]}, 404, "name=nobody not found"),
        ({"moves": [{"name": "x", "alias": "prod", "version": 1}] * 101}, 400, "at most 100"),
    ],
)
def test_what_can_not_be_asked_is_refused(client: httpx2.Client, body: Any, status: int, says: str) -> None:
    answer = client.post(PROMOTE, json=body)
    assert (answer.status_code, says in answer.json()["message"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"condition": [{"name": "spelt", "alias": "prod", "version": 7}]}, "Unknown parameter 'condition'"),
        (
            {"conditions": [{"name": "spelt", "alias": "shadow", "verison": 7}]},
            "Unknown parameter 'conditions[0].verison'",
        ),
        ({"moves": [{"name": "spelt", "alias": "prod", "verison": 2}]}, "Unknown parameter 'moves[0].verison'"),
    ],
)
def test_a_misspelt_field_is_refused_for_without_it_something_else_would_be_done(
    client: httpx2.Client, body: Any, says: str
) -> None:
    if "spelt" not in client.get(f"{MLFLOW}registered-models/search").text:
        model(client, "spelt", 2)
        client.post(f"{MLFLOW}registered-models/alias", json={"name": "spelt", "alias": "prod", "version": "1"})
    answer = client.post(PROMOTE, json={"moves": [{"name": "spelt", "alias": "prod", "version": 2}], **body})
    assert (answer.status_code, says in answer.json()["message"]) == (400, True), answer.text
    assert read(client, "spelt")["model"]["aliases"] == {"prod": 1}


def test_of_many_that_promote_from_one_version_one_wins(servers: ServerPair, client: httpx2.Client) -> None:
    """Compare and set: everybody saw @prod on 1."""
    model(client, "raced", 9)
    client.post(f"{MLFLOW}registered-models/alias", json={"name": "raced", "alias": "prod", "version": "1"})

    def promote(number: int) -> str:
        """Why it was refused; nothing if it was not."""
        try:
            runfold.promote(f"raced@prod={number}", only_if="raced@prod=1", tracking_uri=servers.uris[number % 2])
        except runfold.ServerRefused as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(promote, range(2, 10)))
    won = [not why for why in refused]
    assert sum(won) == 1
    assert all("but it stands on version" in why for why in refused if why)
    assert read(client, "raced")["model"]["aliases"] == {"prod": won.index(True) + 2}


def test_the_sdk_reads_its_short_texts_and_says_what_they_may_be(servers: ServerPair, client: httpx2.Client) -> None:
    model(client, "short", 2)
    runfold.promote(
        "short@prod=1",
        "short/1=production",
        only_if=["short", "short/1=None", "short@prod=none"],
        tracking_uri=servers.uris[0],
    )
    answer = runfold.promote(
        "short@prod=none", "short/2=Production", archive_existing=True, comment="why", tracking_uri=servers.uris[0]
    )
    assert answer["models"][0]["aliases"] == {}
    assert [one["stage"] for one in read(client, "short")["versions"]] == ["Production", "Archived"]
    with pytest.raises(runfold.SdkError, match="moves nothing"):
        runfold.promote("short/1", tracking_uri=servers.uris[0])
    with pytest.raises(runfold.SdkError, match="neither churn@prod=8"):
        runfold.promote("short@prod", tracking_uri=servers.uris[0])
    with pytest.raises(runfold.SdkError, match="needs a move"):
        runfold.promote(tracking_uri=servers.uris[0])
    with pytest.raises(runfold.SdkError, match=r"a move is a string .* got \['short@prod=1'\]"):
        runfold.promote(["short@prod=1"], tracking_uri=servers.uris[0])  # type: ignore[arg-type]
    with pytest.raises(runfold.SdkError, match=r"a condition is a string .* got 7"):
        runfold.promote("short@prod=1", only_if=["short", 7], tracking_uri=servers.uris[0])  # type: ignore[list-item]
    with pytest.raises(runfold.SdkError, match=r"a condition is a string .* got 7"):
        runfold.promote("short@prod=1", only_if=7, tracking_uri=servers.uris[0])  # type: ignore[arg-type]


def test_the_command_promotes_and_says_which_condition_failed(servers: ServerPair, client: httpx2.Client) -> None:
    model(client, "told", 2)
    command = [
        sys.executable,
        "-m",
        "runfold_stack",
        "promote",
        "told@prod=2",
        "--if",
        "told@prod=none",
        "--server",
        servers.uris[0],
    ]
    done = subprocess.run([*command, "--comment", "first"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["models"][0]["aliases"] == {"prod": 2}
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert "@prod of 'told' was not to be set, but it stands on version 2" in again.stderr
