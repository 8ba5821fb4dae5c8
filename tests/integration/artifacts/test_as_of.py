"""Files as of a moment: what the present answered then, by every way to a file, with the bytes of then."""

from __future__ import annotations

import random
from typing import Any

import httpx2
import pytest

from tests.support.api.moments import HEADER, moment, now
from tests.support.mlflow.caller import API, PROXY, Caller

PRESIGNED = "/api/2.0/mlflow-artifacts/presigned"
PATHS = ["a.txt", "m/MLmodel", "m/data/w.bin", "m/data", "z/é.txt", "m0"]
FOLDERS = ["", "m", "m/data", "z", "nowhere"]


def told(client: httpx2.Client, run: str, **asked: str) -> dict[str, Any]:
    """What all reads of the run's files answer."""
    root = f"0/{run}/artifacts"
    found: dict[str, Any] = {}
    for path in PATHS:
        answer = client.get(f"{PROXY}/{root}/{path}", params=asked)
        found[path] = (answer.status_code, answer.content if answer.status_code == 200 else None)
        by_run = client.get("/get-artifact", params={"run_id": run, "path": path} | asked)
        assert (by_run.status_code, by_run.content if by_run.status_code == 200 else None) == found[path]
    for folder in FOLDERS:
        below = client.get(f"{API}artifacts/list", params={"run_id": run, "path": folder} | asked).json()
        proxied = client.get(PROXY, params={"path": f"{root}/{folder}".rstrip("/")} | asked).json()
        names = [
            (one["path"].rpartition("/")[2], one["is_dir"], one.get("file_size")) for one in below.get("files", [])
        ]
        assert names == [(one["path"], one["is_dir"], one.get("file_size")) for one in proxied.get("files", [])]
        found[f"{folder}/"] = names
    return found


@pytest.mark.parametrize("seed", range(2))
def test_files_as_of_a_vector_are_those_that_the_present_showed_then(
    client: httpx2.Client, caller: Caller, seed: int
) -> None:
    rng = random.Random(seed)
    run = caller.run()
    root = f"{PROXY}/0/{run}/artifacts"
    moments = [(now(client), told(client, run))]
    for number in range(12):
        for _ in range(rng.randint(1, 3)):
            match rng.randrange(4):
                case 0:
                    client.delete(f"{root}/{rng.choice([*PATHS, 'm', 'z'])}").raise_for_status()
                case 1:
                    caller.post("runs/set-tag", run_id=run, key="k", value=str(number))
                case _:
                    client.put(f"{root}/{rng.choice(PATHS)}", content=f"{number} {rng.random()}").raise_for_status()
        moments.append((now(client), told(client, run)))
    assert len({str(shown) for _, shown in moments}) > 5
    for vector, shown in moments:
        assert told(client, run, as_of=vector) == shown


def test_every_way_to_a_file_says_the_vector_and_of_when_there_was_none(client: httpx2.Client, caller: Caller) -> None:
    before_run = now(client)
    run = caller.run()
    file = f"0/{run}/artifacts/model/weights"
    none = moment()
    client.put(f"{PROXY}/{file}", content=b"first").raise_for_status()
    first = moment()
    client.put(f"{PROXY}/{file}", content=b"second").raise_for_status()
    client.delete(f"{PROXY}/{file}").raise_for_status()

    answer = client.get(f"{PROXY}/{file}", params={"as_of": first})
    assert (answer.content, answer.headers[HEADER].split(":")[0] != "") == (b"first", True)
    by_header = client.get(f"{PROXY}/{file}", headers={HEADER: answer.headers[HEADER], "range": "bytes=1-2"})
    assert (by_header.status_code, by_header.content) == (206, b"ir")
    signed = client.get(f"{PRESIGNED}/{file}", params={"as_of": first})
    assert (signed.json()["file_size"], signed.headers[HEADER]) == (5, answer.headers[HEADER])
    assert httpx2.get(signed.json()["url"]).content == b"first"
    listing = client.get(f"{API}artifacts/list", params={"run_id": run, "as_of": first})
    assert (listing.json()["files"], listing.headers[HEADER]) == (
        [{"path": "model", "is_dir": True}],
        answer.headers[HEADER],
    )

    assert client.get(f"{PROXY}/{file}").status_code == 404
    missing = client.get(f"{PROXY}/{file}", params={"as_of": none})
    assert missing.status_code == 404
    assert missing.json()["message"].startswith(f"No such artifact: '{file}' as of runs:")
    unborn = client.get(f"{API}artifacts/list", params={"run_id": run, "as_of": before_run})
    assert (unborn.status_code, f"Run with id={run} not found as of runs:" in unborn.json()["message"]) == (404, True)
    folder = client.get("/get-artifact", params={"run_id": run, "path": "model", "as_of": first})
    assert (folder.status_code, "refers to a directory" in folder.json()["message"]) == (400, True)


def test_writing_a_file_into_the_past_is_refused(client: httpx2.Client, caller: Caller) -> None:
    run, at = caller.run(), now(client)
    path = f"{PROXY}/0/{run}/artifacts/file"
    for answer in (client.put(path, params={"as_of": at}, content=b"x"), client.delete(path, headers={HEADER: at})):
        assert (answer.status_code, "it changes the present" in answer.json()["message"]) == (400, True)
    assert client.get(path).status_code == 404


def test_a_logged_models_files_are_told_as_they_were(client: httpx2.Client, caller: Caller) -> None:
    unborn = now(client)
    model = caller.post("logged-models", experiment_id="0", name="m")["model"]["info"]
    root = f"{PROXY}/{model['artifact_uri'].removeprefix('mlflow-artifacts:/')}"
    client.put(f"{root}/MLmodel", content=b"one").raise_for_status()
    at = now(client)
    client.put(f"{root}/MLmodel", content=b"three").raise_for_status()
    client.put(f"{root}/more", content=b"").raise_for_status()

    folder = f"{API}logged-models/{model['model_id']}/artifacts/directories"
    files = f"/ajax-api/2.0/mlflow/logged-models/{model['model_id']}/artifacts/files"
    named = {"artifact_file_path": "MLmodel"}
    assert [one["path"] for one in client.get(folder).json()["files"]] == ["MLmodel", "more"]
    assert client.get(folder, params={"as_of": at}).json()["files"] == [
        {"path": "MLmodel", "is_dir": False, "file_size": 3}
    ]
    assert client.get(files, params=named).content == b"three"
    assert client.get(files, params=named | {"as_of": at}).content == b"one"
    for path, params in ((folder, {}), (files, named)):
        assert client.get(path, params=params | {"as_of": unborn}).status_code == 404
