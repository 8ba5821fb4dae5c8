"""Artifacts through the server: real S3, Kafka and Postgres, two servers, a worker. Answers are MLflow 3.17's."""

from __future__ import annotations

import concurrent.futures
import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import PROXY

API = "/api/2.0/mlflow/"
_numbers = itertools.count(1)


@pytest.fixture
def one(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client(0) as client:
        yield client


@pytest.fixture
def other(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client(1) as client:
        yield client


@pytest.fixture
def run(one: httpx2.Client) -> str:
    answer = one.post(API + "runs/create", json={"experiment_id": "0"})
    return str(answer.json()["run"]["info"]["run_id"])


@pytest.fixture
def root(run: str) -> str:
    return f"{PROXY}/0/{run}/artifacts"


def listed(client: httpx2.Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(PROXY, params={"path": path.removeprefix(PROXY).strip("/")})
    assert answer.status_code == 200, answer.text
    return list(answer.json().get("files", []))


def refused(answer: httpx2.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["message"])


def test_a_file_that_was_stored_is_there_at_once_on_every_server(
    one: httpx2.Client, other: httpx2.Client, run: str, root: str
) -> None:
    stored = one.put(f"{root}/model/MLmodel", content=b"flavors: {}")
    assert (stored.status_code, stored.json()) == (200, {})
    found = other.get(f"{root}/model/MLmodel")
    assert (found.status_code, found.content) == (200, b"flavors: {}")
    assert found.headers["content-type"] == "text/plain; charset=utf-8" or found.headers["content-type"] == "text/plain"
    assert found.headers["content-disposition"] == "attachment; filename=MLmodel"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["content-length"] == "11"
    assert listed(other, root) == [{"path": "model", "is_dir": True}]
    assert listed(other, f"{root}/model") == [{"path": "MLmodel", "is_dir": False, "file_size": 11}]
    by_run = other.get(API + "artifacts/list", params={"run_id": run, "path": "model"}).json()
    assert by_run == {
        "root_uri": f"mlflow-artifacts:/0/{run}/artifacts",
        "files": [{"path": "model/MLmodel", "is_dir": False, "file_size": 11}],
    }
    assert other.get("/get-artifact", params={"run_uuid": run, "path": "model/MLmodel"}).content == b"flavors: {}"


def test_what_is_not_there_is_answered_as_mlflow_does(one: httpx2.Client, run: str, root: str) -> None:
    one.put(f"{root}/folder/file.txt", content=b"x")
    inner = root.removeprefix(PROXY).strip("/")
    assert refused(one.get(f"{root}/nope"), 404) == f"No such artifact: '{inner}/nope'"
    assert refused(one.get("/get-artifact", params={"run_id": run, "path": "nope"}), 404).endswith("nope'")
    assert "refers to a directory, not a file" in refused(one.get(f"{root}/folder"), 400)
    assert one.get(PROXY, params={"path": "nope"}).json() == {}
    assert listed(one, f"{root}/folder/file.txt") == []
    assert one.delete(f"{PROXY}/nope").json() == {}
    no_run = one.get(API + "artifacts/list", params={"run_id": "0" * 32})
    assert refused(no_run, 404) == f"Run with id={'0' * 32} not found"


ESCAPES = [
    "../secret",
    "a/../../secret",
    "%2e%2e/secret",
    "%252e%252e/secret",
    "a/%2e%2e/b",
    "/etc/passwd",
    "%2fetc/passwd",
    "a//b",
    "a/./b",
    "a%00b",
    "a%01b",
    "a%0ab",
    "a%0a",
    "a%2500b",
    "a%23b",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_paths_that_lead_elsewhere_are_refused(servers: ServerPair, root: str, method: str, path: str) -> None:
    # Written to the socket as it is: clients tidy such paths up before they send them.
    host, port = servers.uris[0].removeprefix("http://").split(":")
    answer = raw(
        host,
        int(port),
        f"{method} {root}/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 400"), answer[:300]
    assert b'"Invalid path"' in answer or (b'"Invalid path: it holds a control' in answer)


def raw(host: str, port: int, text: str) -> bytes:
    import socket

    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(text.encode("latin-1"))
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "path", ["..", "a/../b", "/etc", "%2e%2e", "C:/windows", "C:\\windows", "\\\\host\\share\\x", "a#b"]
)
def test_lists_refuse_them_too(one: httpx2.Client, run: str, path: str) -> None:
    assert refused(one.get(PROXY, params={"path": path}), 400) == "Invalid path"
    assert refused(one.get(API + "artifacts/list", params={"run_id": run, "path": path}), 400) == "Invalid path"
    assert refused(one.get("/get-artifact", params={"run_id": run, "path": path}), 400) == "Invalid path"


NAMES = [
    "a b.txt",
    "ünï ☃.txt",
    "日本語",
    "a%20b.txt",
    "x?y=z&w.txt",
    "+plus.txt",
    "'quote\".txt",
    "a;b,c.txt",
    "…" * 60,
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_come_back_as_they_were(one: httpx2.Client, root: str, name: str) -> None:
    from urllib.parse import quote

    address = f"{root}/{quote(name, safe='')}"
    assert one.put(address, content=name.encode()).status_code == 200
    found = one.get(address)
    assert found.content == name.encode()
    assert found.headers["content-disposition"].startswith("attachment; filename=")
    assert [entry["path"] for entry in listed(one, root)] == [name]


def test_the_last_file_of_a_path_counts_and_the_former_one_stays_until_then(one: httpx2.Client, root: str) -> None:
    for content in (b"first", b"second", b"", b"third"):
        assert one.put(f"{root}/same.bin", content=content).status_code == 200
        assert one.get(f"{root}/same.bin").content == content
        assert listed(one, root) == [{"path": "same.bin", "is_dir": False, "file_size": len(content)}]


def test_a_file_or_a_whole_folder_is_deleted(one: httpx2.Client, other: httpx2.Client, root: str) -> None:
    for path in ("a/1", "a/2", "ab/3", "c"):
        one.put(f"{root}/{path}", content=b"x")
    assert one.delete(f"{root}/c").json() == {}
    assert other.get(f"{root}/c").status_code == 404
    assert one.delete(f"{root}/a").status_code == 200
    assert [entry["path"] for entry in listed(other, root)] == ["ab"]
    assert one.delete(f"{root}/").status_code == 200
    assert listed(other, root) == []


def test_a_large_file_goes_in_parts_and_ranges_of_it_come_back(one: httpx2.Client, root: str) -> None:
    content = os.urandom(20 * 1024 * 1024 + 17)
    assert one.put(f"{root}/large.bin", content=content).status_code == 200
    found = one.get(f"{root}/large.bin")
    assert hashlib.sha256(found.content).digest() == hashlib.sha256(content).digest()
    assert found.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    # Chunked, as requests sends what has no length.
    assert one.put(f"{root}/large.bin", content=iter([content[:9_000_000], content[9_000_000:]])).status_code == 200
    for wanted, part in (
        ("0-9", content[:10]),
        ("-5", content[-5:]),
        (f"{8 * 1024 * 1024 - 3}-{8 * 1024 * 1024 + 3}", content[8 * 1024 * 1024 - 3 : 8 * 1024 * 1024 + 4]),
    ):
        ranged = one.get(f"{root}/large.bin", headers={"range": f"bytes={wanted}"})
        assert (ranged.status_code, ranged.content) == (206, part)
    assert ranged.headers["content-range"] == f"bytes {8 * 1024 * 1024 - 3}-{8 * 1024 * 1024 + 3}/{len(content)}"
    beyond = one.get(f"{root}/large.bin", headers={"range": f"bytes={len(content)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")
    head = one.head(f"{root}/large.bin")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(content)), b"")
    assert one.get(f"{root}/large.bin", headers={"if-none-match": found.headers["etag"]}).status_code == 304


def test_many_uploads_at_once_are_all_there(servers: ServerPair, root: str) -> None:
    contents = {f"folder/{n}": os.urandom(1000 + 100_000 * n * (n % 4)) for n in range(32)}

    def put(item: tuple[str, bytes]) -> int:
        with servers.client(hash(item[0]) % 2) as client:
            return client.put(f"{root}/{item[0]}", content=item[1]).status_code

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert set(pool.map(put, contents.items())) == {200}
    with servers.client(0) as client:
        sizes = {entry["path"]: entry["file_size"] for entry in listed(client, f"{root}/folder")}
        assert sizes == {path.removeprefix("folder/"): len(content) for path, content in contents.items()}
        for path, content in contents.items():
            assert client.get(f"{root}/{path}").content == content


@pytest.mark.parametrize("folder", ["0/models/m-1/artifacts", "0/traces/tr-1/artifacts", "anything/else"])
def test_files_belong_to_models_traces_and_the_store_itself_too(
    one: httpx2.Client, other: httpx2.Client, folder: str
) -> None:
    assert one.put(f"{PROXY}/{folder}/deep/file.json", content=b"{}").status_code == 200
    assert other.get(f"{PROXY}/{folder}/deep/file.json").content == b"{}"
    assert listed(other, folder) == [{"path": "deep", "is_dir": True}]
    assert other.delete(f"{PROXY}/{folder}/deep").status_code == 200
    assert listed(one, folder) == []


def test_pages_upload_small_files_to_a_run(one: httpx2.Client, run: str) -> None:
    upload = "/ajax-api/2.0/mlflow/upload-artifact"
    where = {"run_uuid": run, "path": "notes/a.txt"}
    assert one.post(upload, params=where, content=b"note").status_code == 200
    assert one.get("/get-artifact", params={"run_id": run, "path": "notes/a.txt"}).content == b"note"
    assert refused(one.post(upload, params=where, content=b""), 400) == "Request must specify data."
    large = one.post(upload, params=where, content=b"x" * (10 * 1024 * 1024 + 1))
    assert refused(large, 400) == "Artifact size is too large. Max size is 10MB."


def test_an_experiments_own_store_is_left_to_clients(one: httpx2.Client) -> None:
    made = one.post(
        API + "experiments/create", json={"name": f"own {next(_numbers)}", "artifact_location": "s3://own/x"}
    )
    created = one.post(API + "runs/create", json={"experiment_id": made.json()["experiment_id"]})
    run = created.json()["run"]["info"]
    assert run["artifact_uri"] == f"s3://own/x/{run['run_id']}/artifacts"
    answer = one.get(API + "artifacts/list", params={"run_id": run["run_id"]})
    assert "outside of this server's store" in refused(answer, 501)


@pytest.mark.parametrize("completions", [1, 2])
def test_clients_may_send_parts_to_the_store_themselves(
    one: httpx2.Client, other: httpx2.Client, root: str, completions: int
) -> None:
    folder = root.replace("/artifacts/0/", "/mpu/{}/0/")
    local = {"path": "/anywhere/big.bin"}
    content = os.urandom(6 * 1024 * 1024)
    created = one.post(folder.format("create") + "/deep", json=local | {"num_parts": 2}).json()
    parts = []
    for credential, part in zip(
        created["credentials"], (content[: 5 * 1024 * 1024], content[5 * 1024 * 1024 :]), strict=True
    ):
        sent = httpx2.put(credential["url"], content=part, timeout=30)
        assert sent.status_code == 200, sent.text
        parts.append({"part_number": credential["part_number"], "etag": sent.headers["etag"]})
    assert listed(one, root) == [], "parts are no file"
    done = local | {"upload_id": created["upload_id"], "parts": parts}
    for _ in range(completions):
        assert other.post(folder.format("complete") + "/deep", json=done).json() == {}
    found = one.get(f"{root}/deep/big.bin")
    assert found.content == content
    assert found.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    signed = other.get(f"{root.replace('/artifacts/0/', '/presigned/0/')}/deep/big.bin").json()
    assert signed["file_size"] == len(content)
    assert httpx2.get(signed["url"], timeout=30).content == content


def test_an_upload_that_was_aborted_can_not_be_completed(one: httpx2.Client, root: str) -> None:
    folder = root.replace("/artifacts/0/", "/mpu/{}/0/")
    created = one.post(folder.format("create"), json={"path": "x.bin", "num_parts": 1}).json()
    sent = httpx2.put(created["credentials"][0]["url"], content=b"x", timeout=30)
    known = {"path": "x.bin", "upload_id": created["upload_id"]}
    assert one.post(folder.format("abort"), json=known).json() == {}
    done = known | {"parts": [{"part_number": 1, "etag": sent.headers["etag"]}]}
    assert refused(one.post(folder.format("complete"), json=done), 404).startswith("No such upload")
    foreign = one.post(folder.format("abort"), json=known | {"upload_id": "../other"})
    assert "this server created no such upload" in refused(foreign, 400)
    assert listed(one, root) == []


def test_a_model_versions_file(one: httpx2.Client, run: str, root: str) -> None:
    one.put(f"{root}/model/MLmodel", content=b"flavors: {}")
    name = f"versioned {next(_numbers)}"
    one.post(API + "registered-models/create", json={"name": name})
    place = root.removeprefix(PROXY).strip("/")
    for number, source in enumerate((f"runs:/{run}/model", f"mlflow-artifacts:/{place}/model"), 1):
        made = one.post(API + "model-versions/create", json={"name": name, "source": source, "run_id": run})
        assert made.status_code == 200, made.text
        asked = {"name": name, "version": str(number), "path": "MLmodel"}
        assert one.get("/model-versions/get-artifact", params=asked).content == b"flavors: {}"
        assert refused(one.get("/model-versions/get-artifact", params=asked | {"path": "x"}), 404)
    made = one.post(API + "model-versions/create", json={"name": name, "source": "s3://elsewhere/x"})
    answer = one.get("/model-versions/get-artifact", params={"name": name, "version": "3", "path": "MLmodel"})
    assert "s3://elsewhere/x" in refused(answer, 501)


def test_a_bad_path_is_400_before_anything_is_looked_for(servers: ServerPair, one: httpx2.Client) -> None:
    asked = {"name": "no such model", "version": "1", "path": "../path"}
    assert refused(one.get("/model-versions/get-artifact", params=asked), 400) == "Invalid path"
    # MLflow's own test asks with two slashes.
    twice = one.get(f"{servers.uris[0]}//model-versions/get-artifact", params=asked)
    assert (twice.status_code, twice.headers["location"].partition("?")[0]) == (308, "/model-versions/get-artifact")
    assert (
        refused(one.get(f"{servers.uris[0]}//model-versions/get-artifact", params=asked, follow_redirects=True), 400)
        == "Invalid path"
    )


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "///evil.example", "//evil.example//..", "/x//evil.example/%0d%0a"]
)
def test_no_address_leads_to_another_host(servers: ServerPair, path: str) -> None:
    host, port = servers.uris[0].removeprefix("http://").split(":")
    answer = raw(host, int(port), f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").decode(
        "latin-1"
    )
    lines = [line for line in answer.splitlines() if line.lower().startswith("location:")]
    assert all(line.split(": ")[1].startswith("/") and not line.split(": ")[1].startswith("//") for line in lines)
