"""The unmodified MLflow client through every call of the registry, errors included, on real services."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from tests.support.installations.server_pair import ServerPair, server_pair
from tests.support.services.running import Services

S3 = "s3://bucket/model"
CLIENTS = 8
VERSIONS = 1000


@pytest.fixture(scope="module", params=["", "runfold+"], ids=["http", "plugin"])
def scheme(request: pytest.FixtureRequest) -> str:
    """What the plugin's addresses begin with, or nothing."""
    return str(request.param)


@pytest.fixture(scope="module")
def servers(services: Services, scheme: str) -> Iterator[ServerPair]:
    with server_pair(services) as made:
        yield made


@pytest.fixture
def client(servers: ServerPair, scheme: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    return MlflowClient(scheme + servers.uris[0], scheme + servers.uris[0])


def test_a_models_whole_life(client: MlflowClient) -> None:
    made = client.create_registered_model("churn", tags={"team": "growth"}, description="who leaves")
    assert (made.name, made.tags, made.description) == ("churn", {"team": "growth"}, "who leaves")
    with pytest.raises(RestException, match=r"Registered Model \(name=churn\) already exists") as caught:
        client.create_registered_model("churn")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.set_registered_model_tag("churn", "owner", "ada")
    client.delete_registered_model_tag("churn", "team")
    client.delete_registered_model_tag("churn", "team")
    assert client.get_registered_model("churn").tags == {"owner": "ada"}
    assert client.update_registered_model("churn", "who may leave").description == "who may leave"
    client.rename_registered_model("churn", "attrition")
    with pytest.raises(RestException, match="name=churn not found"):
        client.get_registered_model("churn")
    client.delete_registered_model("attrition")
    with pytest.raises(RestException, match="name=attrition not found"):
        client.delete_registered_model("attrition")


def test_a_versions_whole_life(client: MlflowClient) -> None:
    run = client.create_run("0").info
    client.create_registered_model("v")
    first = client.create_model_version(
        "v", f"runs:/{run.run_id}/model", run.run_id, tags={"a": "1"}, run_link="https://x/1", description="one"
    )
    assert (first.version, first.status, first.current_stage, first.run_id) == ("1", "READY", "None", run.run_id)
    assert (first.tags, first.run_link, first.description) == ({"a": "1"}, "https://x/1", "one")
    second = client.create_model_version("v", f"{run.artifact_uri}/model", run.run_id)
    assert client.get_model_version_download_uri("v", "2") == second.source
    assert client.update_model_version("v", "2", "two").description == "two"
    client.set_model_version_tag("v", "2", "b", "2")
    client.set_model_version_tag("v", "2", "c", "3")
    client.delete_model_version_tag("v", "2", "c")
    assert client.get_model_version("v", "2").tags == {"b": "2"}
    client.set_registered_model_alias("v", "prod", "1")
    client.set_registered_model_alias("v", "best", "1")
    assert sorted(client.get_model_version("v", "1").aliases) == ["best", "prod"]
    client.set_registered_model_alias("v", "prod", "2")
    assert client.get_model_version_by_alias("v", "prod").version == "2"
    assert client.get_registered_model("v").aliases == {"prod": "2", "best": "1"}
    client.delete_registered_model_alias("v", "prod")
    with pytest.raises(RestException, match="Registered model alias prod not found"):
        client.get_model_version_by_alias("v", "prod")
    client.delete_model_version("v", "1")
    with pytest.raises(RestException, match=r"Model Version \(name=v, version=1\) not found"):
        client.get_model_version("v", "1")
    assert client.get_registered_model("v").aliases == {}
    assert client.create_model_version("v", S3).version == "3"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_stages_and_the_latest_versions(client: MlflowClient) -> None:
    client.create_registered_model("staged")
    for _ in range(4):
        client.create_model_version("staged", S3)
    moved = client.transition_model_version_stage("staged", "1", "production")
    assert moved.current_stage == "Production"
    client.transition_model_version_stage("staged", "2", "Production")
    client.transition_model_version_stage("staged", "3", "Production", archive_existing_versions=True)
    assert {v.version: v.current_stage for v in client.search_model_versions("name = 'staged'")} == {
        "1": "Archived",
        "2": "Archived",
        "3": "Production",
        "4": "None",
    }
    assert {v.current_stage: v.version for v in client.get_latest_versions("staged")} == {
        "Archived": "2",
        "Production": "3",
        "None": "4",
    }
    assert [v.version for v in client.get_latest_versions("staged", ["Production"])] == ["3"]
    with pytest.raises(MlflowException, match="Invalid Model Version stage: nowhere"):
        client.transition_model_version_stage("staged", "1", "nowhere")
    with pytest.raises(
        RestException, match="cannot archive existing model versions because 'None' is not an Active stage"
    ):
        client.transition_model_version_stage("staged", "1", "None", archive_existing_versions=True)


def test_a_copied_version_keeps_its_run_and_its_files(client: MlflowClient) -> None:
    run = client.create_run("0").info
    client.create_registered_model("from")
    source = client.create_model_version("from", f"runs:/{run.run_id}/model", run.run_id)
    copied = client.copy_model_version("models:/from/1", "to")
    assert (copied.name, copied.version, copied.run_id, copied.source) == ("to", "1", run.run_id, "models:/from/1")
    assert client.get_model_version_download_uri("to", "1") == source.source
    client.set_registered_model_alias("from", "prod", "1")
    assert client.copy_model_version("models:/from@prod", "to").source == "models:/from/1"


def test_searches_page_through_everything_in_their_order(client: MlflowClient) -> None:
    for number in range(7):
        client.create_registered_model(f"s{number}", tags={"parity": "odd" if number % 2 else "even"})
        client.create_model_version(f"s{number}", f"{S3}/{number}")
    names, token = [], None
    while True:
        page = client.search_registered_models("name LIKE 's_'", 2, ["name DESC"], token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            break
    assert names == [f"s{number}" for number in reversed(range(7))]
    odd = client.search_registered_models("tags.parity = 'odd' AND name ILIKE 'S%'")
    assert [(model.name, model.latest_versions[0].version) for model in odd] == [("s1", "1"), ("s3", "1"), ("s5", "1")]
    found = client.search_model_versions(f"source_path = '{S3}/3'")
    assert [(version.name, version.version) for version in found] == [("s3", "1")]


def test_prompts_are_not_found_among_models_and_models_not_among_prompts(client: MlflowClient) -> None:
    client.create_registered_model("a-model")
    made = client.register_prompt("a-prompt", "Hello {{name}}", commit_message="first")
    assert made.version == 1
    client.register_prompt("a-prompt", "Hi {{name}}")
    client.set_prompt_alias("a-prompt", "live", 2)
    assert client.load_prompt("prompts:/a-prompt@live").template == "Hi {{name}}"
    assert [prompt.name for prompt in client.search_prompts()] == ["a-prompt"]
    assert "a-prompt" not in [model.name for model in client.search_registered_models()]
    assert "a-model" in [model.name for model in client.search_registered_models()]
    assert not [v for v in client.search_model_versions() if v.name == "a-prompt"]
    with pytest.raises(MlflowException, match="exists with the same name"):
        client.register_prompt("a-model", "x")


def _create_versions(uri: str, name: str, count: int, begin: threading.Barrier) -> list[int]:
    with httpx2.Client(base_url=uri, timeout=120) as client:
        begin.wait()
        answers = [
            client.post("/api/2.0/mlflow/model-versions/create", json={"name": name, "source": S3})
            for _ in range(count)
        ]
    assert {answer.status_code for answer in answers} == {200}
    return [int(answer.json()["model_version"]["version"]) for answer in answers]


def test_a_thousand_versions_by_eight_clients_at_once_are_numbered_1_to_1000_once_each(
    servers: ServerPair, client: MlflowClient
) -> None:
    client.create_registered_model("many")
    begin = threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        told = pool.map(
            lambda n: _create_versions(servers.uris[n % 2], "many", VERSIONS // CLIENTS, begin), range(CLIENTS)
        )
        numbers = [number for part in told for number in part]
    assert sorted(numbers) == list(range(1, VERSIONS + 1))
    assert len(client.search_model_versions("name = 'many'", max_results=2000)) == VERSIONS


def test_32_clients_at_once_meet_no_deadlock_no_gap_and_no_lost_update(
    servers: ServerPair, client: MlflowClient
) -> None:
    """Each creates versions of one model, tags them, and moves one alias and one stage that all fight for."""
    client.create_registered_model("fought over")
    clients, rounds = 32, 4
    begin = threading.Barrier(clients)

    def work(number: int) -> list[Any]:
        with httpx2.Client(base_url=f"{servers.uris[number % 2]}/api/2.0/mlflow/", timeout=120) as own:
            begin.wait()
            made = []
            for turn in range(rounds):
                answer = own.post("model-versions/create", json={"name": "fought over", "source": S3})
                version = answer.json()["model_version"]["version"]
                which = {"name": "fought over", "version": version}
                answers = [
                    own.post("model-versions/set-tag", json={**which, "key": f"c{number}", "value": str(turn)}),
                    own.post(
                        "registered-models/set-tag",
                        json={"name": "fought over", "key": f"c{number}", "value": str(turn)},
                    ),
                    own.post("registered-models/alias", json={**which, "alias": "prod"}),
                    own.post(
                        "model-versions/transition-stage",
                        json={**which, "stage": "Production", "archive_existing_versions": True},
                    ),
                ]
                made.append((version, Counter(each.status_code for each in (answer, *answers))))
            return made

    with ThreadPoolExecutor(clients) as pool:
        done = [one for part in pool.map(work, range(clients)) for one in part]
    assert {status for _, statuses in done for status in statuses} == {200}
    assert sorted(int(version) for version, _ in done) == list(range(1, clients * rounds + 1))
    model = client.get_registered_model("fought over")
    assert model.tags == {f"c{number}": str(rounds - 1) for number in range(clients)}
    versions = client.search_model_versions("name = 'fought over'", max_results=1000)
    assert Counter(version.current_stage for version in versions)["Production"] == 1
    assert all(len(version.tags) == 1 for version in versions)
    assert list(model.aliases) == ["prod"]
