"""Nobody gets the server to read or write in one run's name what is another's, and no secrets are kept in the log."""

from __future__ import annotations

import itertools
from typing import Any

import httpx2
import pytest

from runfold_schemas.codec.batch import CONTENT_TYPE, Outgoing, encode_batch
from runfold_schemas.events.artifacts import ArtifactStored
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.events.logged_models import LoggedModelCreated
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.events.webhooks import WebhookCreated
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import PROXY

API = "/api/2.0/mlflow/"
MPU = "/api/2.0/mlflow-artifacts/mpu"
NATIVE = "/api/runfold/v1/"
_numbers = itertools.count(1)


def name(what: str = "deputy") -> str:
    return f"{what}-{next(_numbers)}"


def post(client: httpx2.Client, path: str, status: int = 200, **body: Any) -> Any:
    answer = client.post(API + path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def new_run(client: httpx2.Client, experiment: str = "0") -> str:
    return str(post(client, "runs/create", experiment_id=experiment)["run"]["info"]["run_id"])


def put(client: httpx2.Client, path: str, content: bytes = b"mine") -> None:
    answer = client.put(f"{PROXY}/{path}", content=content)
    assert answer.status_code == 200, answer.text


def append(client: httpx2.Client, *records: Outgoing) -> httpx2.Response:
    headers = {"content-type": CONTENT_TYPE}
    return client.post(f"{NATIVE}events?wait=outcome", content=encode_batch(records), headers=headers)


def as_writer(topic: Topic, event: Any) -> Outgoing:
    return outgoing(topic, event, writer=name("writer"))


@pytest.fixture
def victim(client: httpx2.Client) -> str:
    """A run with a file."""
    run = new_run(client)
    put(client, f"0/{run}/artifacts/secret.txt", b"the victim's")
    return run


def locations(victim: str) -> list[str]:
    return [
        "mlflow-artifacts:/0?x",
        f"mlflow-artifacts:/0/{victim}/artifacts?x=",
        f"mlflow-artifacts:/0/{victim}/artifacts",
        f"mlflow-artifacts:///0/{victim}/artifacts/",
        f"mlflow-artifacts:/0/{victim}/artifacts/deep",
        f"mlflow-artifacts:/0%2F{victim}%2Fartifacts",
        f"mlflow-artifacts:/0/{victim}%252Fartifacts",
        f"mlflow-artifacts:/x/../0/{victim}/artifacts",
        "mlflow-artifacts:/0/models/m-1/artifacts",
        "mlflow-artifacts:/0/traces/tr-1/artifacts",
        "MLFLOW-ARTIFACTS:/0?x",
        f"mlflow-artifacts:0/{victim}/artifacts",
    ]


@pytest.mark.parametrize("number", range(12))
def test_no_experiment_lies_in_what_is_a_runs_or_a_models(client: httpx2.Client, victim: str, number: int) -> None:
    said = post(client, "experiments/create", 400, name=name(), artifact_location=locations(victim)[number])
    assert "artifact_location" in said["message"]


@pytest.mark.parametrize("number", range(12))
def test_an_experiment_that_does_nevertheless_makes_no_deputy(client: httpx2.Client, victim: str, number: int) -> None:
    """As a writer past the server can make one, or an older release did."""
    event = ExperimentCreated(name=name(), artifact_location=locations(victim)[number])
    answer = append(client, as_writer(Topic.EXPERIMENTS, event))
    assert answer.status_code == 200, answer.text
    experiment = client.get(API + "experiments/get-by-name", params={"experiment_name": event.name}).json()
    run = new_run(client, experiment["experiment"]["experiment_id"])
    root = client.get(API + "runs/get", params={"run_id": run}).json()["run"]["info"]["artifact_uri"]
    for path in ("secret.txt", f"{victim}/artifacts/secret.txt", f"0/{victim}/artifacts/secret.txt"):
        got = client.get("/get-artifact", params={"run_id": run, "path": path})
        assert got.status_code in (400, 404), (root, got.text)
        sent = client.post(
            "/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run, "path": path}, content=b"overwritten"
        )
        assert sent.status_code in (200, 400), (root, sent.text)
    listed = client.get(API + "artifacts/list", params={"run_id": run, "path": victim})
    assert "secret" not in listed.text
    assert client.get(f"{PROXY}/0/{victim}/artifacts/secret.txt").content == b"the victim's"
    versions = (f"{root}/secret.txt", f"mlflow-artifacts:/0/{victim}/artifacts/secret.txt")
    model = name("model")
    post(client, "registered-models/create", name=model)
    for source in versions:
        body = {"name": model, "source": source, "run_id": run}
        made = client.post(API + "model-versions/create", json=body)
        assert made.status_code == 400, (root, source, made.text)


def test_a_runs_root_that_a_writer_made_up_is_not_followed(client: httpx2.Client, victim: str) -> None:
    run = name("run")
    event = RunCreated(
        run_id=run, experiment_id=0, name=run, start_ms=1, artifact_uri=f"mlflow-artifacts:/0/{victim}/artifacts"
    )
    assert append(client, as_writer(Topic.RUNS, event)).status_code == 200
    assert client.get("/get-artifact", params={"run_id": run, "path": "secret.txt"}).status_code == 400
    assert client.get(API + "artifacts/list", params={"run_id": run}).status_code == 400
    model = LoggedModelCreated(
        model_id=name("m"), experiment_id=0, name="m", artifact_uri=f"mlflow-artifacts:/0/{victim}/artifacts"
    )
    assert append(client, as_writer(Topic.REGISTRY, model)).status_code == 200
    where = f"{API}logged-models/{model.model_id}/artifacts/directories"
    assert client.get(where).status_code == 400


def test_another_servers_store_is_not_taken_for_ours(client: httpx2.Client) -> None:
    experiment = post(
        client, "experiments/create", name=name(), artifact_location="mlflow-artifacts://other.example:5000/0"
    )["experiment_id"]
    run = new_run(client, experiment)
    assert client.get(API + "artifacts/list", params={"run_id": run}).status_code == 501
    assert client.get("/get-artifact", params={"run_id": run, "path": "x"}).status_code == 501


@pytest.mark.parametrize(
    "location",
    ["mlflow-artifacts:/team", "mlflow-artifacts:/0/models", "mlflow-artifacts:/team/a b/ü", "mlflow-artifacts:"],
)
def test_plain_folders_are_taken(client: httpx2.Client, location: str) -> None:
    experiment = post(client, "experiments/create", name=name(), artifact_location=location)["experiment_id"]
    run = new_run(client, experiment)
    sent = client.post("/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run, "path": "a"}, content=b"x")
    assert sent.status_code == 200, sent.text
    assert client.get("/get-artifact", params={"run_id": run, "path": "a"}).content == b"x"


def begun(client: httpx2.Client, folder: str, file: str = "f.bin") -> Any:
    answer = client.post(f"{MPU}/create/{folder}", json={"path": file, "num_parts": 1})
    assert answer.status_code == 200, answer.text
    return answer.json()


def sent_part(upload: Any, content: bytes) -> list[Any]:
    url = upload["credentials"][0]["url"]
    etag = httpx2.put(url, content=content).headers["etag"]
    return [{"part_number": 1, "etag": etag, "url": url}]


def complete(client: httpx2.Client, folder: str, upload_id: str, parts: list[Any], file: str = "f.bin") -> Any:
    return client.post(f"{MPU}/complete/{folder}", json={"path": file, "upload_id": upload_id, "parts": parts})


def object_of(client: httpx2.Client, path: str) -> str:
    """The object's name as everybody can learn it: from an address that the server signs."""
    url = client.get(f"/api/2.0/mlflow-artifacts/presigned/{path}").json()["url"]
    return str(url.partition("?")[0].rpartition("/")[2])


def test_no_upload_makes_anothers_object_mine(client: httpx2.Client, victim: str) -> None:
    mine, folder = new_run(client), f"0/{victim}/artifacts"
    stolen = object_of(client, f"{folder}/secret.txt")
    upload = begun(client, folder)
    parts = sent_part(upload, b"by parts")
    assert complete(client, folder, upload["upload_id"], parts).status_code == 200
    _, nonce, real = upload["upload_id"].split(".", 2)
    other = object_of(client, f"{folder}/f.bin")
    own = begun(client, f"0/{mine}/artifacts")
    _, own_nonce, own_real = own["upload_id"].split(".", 2)
    ids = [f"{at}.bogus" for at in (stolen, other)]
    ids += [f"{at}.{'0' * 32}.{id}" for at in (stolen, other) for id in ("bogus", real, own_real)]
    ids += [f"{at}.{own_nonce}.{own_real}" for at in (stolen, other)]
    ids += [f"{stolen}.{nonce}.{real}", upload["upload_id"]]
    for upload_id in ids:
        answer = complete(client, f"0/{mine}/artifacts", upload_id, parts)
        assert answer.status_code in (400, 404), (upload_id, answer.text)
    # Nor does it bring an object back to where it was, for those who know but its name.
    put(client, f"{folder}/f.bin", b"newer")
    assert complete(client, folder, f"{other}.{'0' * 32}.{real}", parts).status_code == 404
    assert client.get(f"{PROXY}/0/{mine}/artifacts/f.bin").status_code == 404
    assert client.get(f"{PROXY}/{folder}/f.bin").content == b"newer"


def test_an_upload_whose_answer_was_lost_can_be_completed_again(client: httpx2.Client, victim: str) -> None:
    folder = f"0/{victim}/artifacts"
    upload = begun(client, folder)
    parts = sent_part(upload, b"by parts")
    for _ in range(2):
        assert complete(client, folder, upload["upload_id"], parts).status_code == 200
    assert client.get(f"{PROXY}/{folder}/f.bin").content == b"by parts"


def test_clients_tell_of_no_objects(client: httpx2.Client, servers: ServerPair, victim: str) -> None:
    stolen = object_of(client, f"0/{victim}/artifacts/secret.txt")
    for key in (f"{servers.namespace}/artifacts/{stolen}", "another/artifacts/0"):
        event = ArtifactStored(owner=new_run(client), path="a", size=1, sha256="0" * 64, object_key=key)
        answer = append(client, as_writer(Topic.RUNS, event))
        assert answer.status_code == 400
        assert "appended by the server" in answer.text


def test_timelines_show_no_names_of_objects(client: httpx2.Client, victim: str) -> None:
    stolen = object_of(client, f"0/{victim}/artifacts/secret.txt")
    shown = client.get(f"{NATIVE}runs/{victim}/events")
    assert shown.status_code == 200, shown.text
    assert "secret.txt" in shown.text
    assert stolen not in shown.text
    assert "object_key" not in shown.text


SECRETS = (
    "mysql://user:hunter2@db/x", "https://user@store/x", "https://user:hunter2@store/x", "s3://AKIA:hunter2@bucket/x",
    "jdbc:mysql://user:hunter2@db/x", "https://store/x?X-Amz-Signature=hunter2", "https://store/x?sig=hunter2",
    "https://store/x?a=1&access_token=hunter2", "s3://bucket/x?aws_secret_access_key=hunter2", "ftp://u:hunter2@host/x",
    "wasbs://c@account.blob.core.windows.net/x?sv=1&sig=hunter2", "mlflow-artifacts://user:hunter2@host/x",
    "postgres://db/x?password=hunter2", "https://store/x?PWD=hunter2",
)  # fmt: skip
NO_SECRETS = (
    "s3://bucket/x", "s3://bucket/key=1/x", "wasbs://container@account.blob.core.windows.net/x", "sftp://user@host/x",
    "abfss://fs@account.dfs.core.windows.net/x", "hdfs://host:8020/x@v1", "file:///tmp/tokens", "gs://b/x?driver=y",
    "/files/passwords@home:x",
)  # fmt: skip


@pytest.mark.parametrize("location", SECRETS)
def test_locations_with_credentials_are_refused_and_not_repeated(client: httpx2.Client, location: str) -> None:
    said = post(client, "experiments/create", 400, name=name(), artifact_location=location)["message"]
    assert "credentials" in said
    assert "hunter2" not in said
    model = name("model")
    post(client, "registered-models/create", name=model)
    said = post(client, "model-versions/create", 400, name=model, source=location)["message"]
    assert "credentials" in said
    assert "hunter2" not in said
    event = RunCreated(run_id=name("run"), experiment_id=0, name="", start_ms=1, artifact_uri=location)
    answer = append(client, as_writer(Topic.RUNS, event))
    hook = WebhookCreated(webhook_id=name("hook"), name="h", url=location, kinds=["model_version.created"])
    if "@" in location and "wasbs" not in location:
        assert append(client, as_writer(Topic.REGISTRY, hook)).status_code == 400
    assert (answer.status_code, "credentials" in answer.text, "hunter2" in answer.text) == (400, True, False)


@pytest.mark.parametrize("location", NO_SECRETS)
def test_locations_without_are_taken(client: httpx2.Client, location: str) -> None:
    post(client, "experiments/create", name=name(), artifact_location=location)


@pytest.mark.parametrize(
    ("location", "root"),
    [
        ("mysql://db/x?driver=y", "mysql://db/x/{}?driver=y"),
        ("s3://bucket/x/?a=1&b=2", "s3://bucket/x/{}?a=1&b=2"),
        ("s3://bucket", "s3://bucket/{}"),
        ("/files/what?", "/files/what?/{}"),
    ],
)
def test_a_locations_query_stays_at_the_end(client: httpx2.Client, location: str, root: str) -> None:
    experiment = post(client, "experiments/create", name=name(), artifact_location=location)["experiment_id"]
    made = post(client, "runs/create", experiment_id=experiment)["run"]["info"]
    assert made["artifact_uri"] == root.format(f"{made['run_id']}/artifacts")
    model = post(client, "logged-models", experiment_id=experiment)["model"]["info"]
    assert model["artifact_uri"] == root.format(f"models/{model['model_id']}/artifacts")
