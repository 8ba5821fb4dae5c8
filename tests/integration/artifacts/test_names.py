"""Whatever a file is called on a Linux disk, MLflow's own client can log it and gets it back under its name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import mlflow
import pytest

from runfold_server.artifacts.presigned import _file_name
from tests.support.installations.server_pair import ServerPair

NAMES = (
    "back\\slash.txt", "\\", "\\\\host", "a\\..\\b", "..\\up", "trailing.", "trailing..", "...", "trailing ",
    ".hidden", "-rf", "~", "a:b", "c:windows.txt", "CON", "s3:", "a*b", "a|b", "<a>", "\"quoted'", "$HOME",
    "`id`", "{x}", "[x]", "a;b", "a&b=c", "a+b", "a,b", "a@b", "a!b", "(a)", "^a", "100%", "%", "=", "'", "_", "0",
    "Case.txt", "case.txt", "CASE.TXT", "straße", "STRASSE",
    unicodedata.normalize("NFC", "Köln é ﬁ"), unicodedata.normalize("NFD", "Köln é ﬁ"), "ﬁ", "fi", "\u00c5", "\u212b",
    "x" * 255, "ü" * 127, "模" * 85, "🧪" * 63, "\u200b", "\u202eexe.txt", "\u00a0", "\u0085", "\u2028", "artifacts",
)  # fmt: skip


NOT_READ_BY_THE_CLIENT = (" leading", "C:", "file:x")
"""MLflow's client logs them, and refuses or changes their names itself when it reads."""


@pytest.fixture
def tracking(servers: ServerPair) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(servers.uris[0])


def test_a_folder_of_all_kinds_of_names_comes_back_as_it_was(
    tracking: mlflow.MlflowClient, servers: ServerPair, tmp_path: Path
) -> None:
    folder, back = tmp_path / "sent", tmp_path / "back"
    for place in (folder, folder / "deep\\er" / "dot."):
        place.mkdir(parents=True)
        for name in NAMES:
            (place / name).write_text(name)
    back.mkdir()
    run = tracking.create_run("0").info.run_id
    tracking.log_artifacts(run, str(folder))
    assert {one.path for one in tracking.list_artifacts(run)} == {*NAMES, "deep\\er"}
    below = {one.path for one in tracking.list_artifacts(run, "deep\\er/dot.")}
    assert below == {f"deep\\er/dot./{name}" for name in NAMES}
    mlflow.set_tracking_uri(servers.uris[0])
    mlflow.artifacts.download_artifacts(run_id=run, dst_path=str(back))
    found = {str(path.relative_to(back)): path.read_text() for path in back.rglob("*") if path.is_file()}
    assert found == {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    with servers.client() as client:
        for name in NAMES:
            got = client.get("/get-artifact", params={"run_id": run, "path": name})
            assert (got.status_code, got.text) == (200, name)


def test_a_name_that_mlflows_client_can_not_read_is_kept_too(
    tracking: mlflow.MlflowClient, servers: ServerPair, tmp_path: Path
) -> None:
    for name in NOT_READ_BY_THE_CLIENT:
        (tmp_path / name).write_text(name)
    run = tracking.create_run("0").info.run_id
    tracking.log_artifacts(run, str(tmp_path))
    with servers.client() as client:
        for name in NOT_READ_BY_THE_CLIENT:
            got = client.get("/get-artifact", params={"run_id": run, "path": name})
            assert (got.status_code, got.text) == (200, name)


@pytest.mark.parametrize(
    ("name", "word"), [("a\nb", "U+000A"), ("\x1b[31m", "U+001B"), ("a\tb", "U+0009"), ("x" * 1801, "1800 bytes")]
)
def test_what_is_not_taken_is_named(servers: ServerPair, name: str, word: str) -> None:
    with servers.client() as client:
        run = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
        sent = client.post("/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run, "path": name}, content=b"x")
        assert sent.status_code == 400
        assert word in sent.json()["message"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/back\\slash.bin", "back\\slash.bin"),
        ("back\\slash.bin", "back\\slash.bin"),
        ("C:\\data\\big.bin", "big.bin"),
        ("\\\\host\\share\\big.bin", "big.bin"),
        ("C:/data/big.bin", "big.bin"),
        ("big.bin", "big.bin"),
        ("/data/trailing. ", "trailing. "),
    ],
)
def test_a_large_file_has_the_name_that_it_has_on_its_own_system(path: str, name: str) -> None:
    assert _file_name(path) == name


def test_the_names_were_ones_that_a_disk_takes() -> None:
    assert max(len(os.fsencode(name)) for name in NAMES) == 255
    assert len(set(NAMES)) == len(NAMES)
