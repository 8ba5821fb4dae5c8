"""The unmodified MLflow client logs, lists, reads and deletes artifacts through the server."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.installations.shared import shared_installation, start_together
from tests.support.mlflow.uris import KINDS, mlflow_uri

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts, list_artifacts, load_dict, load_text
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.services.running import Services


@pytest.fixture(scope="module", params=KINDS)
def url(services: Services, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """The tracking URI; each kind has an installation of its own, since the tests name models."""
    name = f"mlflow_artifacts_{KINDS.index(request.param)}"
    with shared_installation(services, name, tmp_path_factory.mktemp("artifacts")) as installation:
        _, server = start_together(installation, "worker", "server")
        yield mlflow_uri(request.param, installation, server)


@pytest.fixture
def run(url: str) -> Iterator[str]:
    """A run that is active, as scripts have it."""
    mlflow.set_tracking_uri(url)
    with mlflow.start_run() as active:
        yield active.info.run_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "deep" / "er").mkdir(parents=True)
    (made / "top.txt").write_text("top")
    (made / "deep" / "er" / "bytes.bin").write_bytes(os.urandom(100_000))
    (made / "deep" / "name with blank.txt").write_text("ünï")
    (made / "empty").write_bytes(b"")
    return made


@pytest.mark.filterwarnings("ignore:For backward compatibility")  # of pandas, at what the client does
def test_texts_dicts_and_tables(run: str) -> None:
    mlflow.log_text("héllo", "notes/a.txt")
    mlflow.log_dict({"a": [1, None]}, "conf/a.json")
    mlflow.log_dict({"b": 2}, "conf/b.yaml")
    mlflow.log_table({"q": ["one", "two"], "n": [1, 2]}, "table.json")
    assert load_text(f"runs:/{run}/notes/a.txt") == "héllo"
    assert load_dict(f"runs:/{run}/conf/a.json") == {"a": [1, None]}
    assert load_text(f"runs:/{run}/conf/b.yaml") == "b: 2\n"
    assert mlflow.load_table("table.json", run_ids=[run])["n"].tolist() == [1, 2]
    # A table grows by being read and written again at the same path.
    mlflow.log_table({"q": ["three"], "n": [3]}, "table.json")
    assert mlflow.load_table("table.json", run_ids=[run])["n"].tolist() == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:For backward compatibility")
def test_tables_are_logged_however_many_there_are_in_the_run(run: str) -> None:
    # The client keeps the list in a tag: MLflow's server cuts it at 8000 characters, and the next call can't read it.
    many = [{"path": f"tables/of/an/evaluation/{n}.json", "type": "table"} for n in range(200)]
    mlflow.set_tag("mlflow.loggedArtifacts", json.dumps(many))
    mlflow.log_table({"n": [1]}, "last.json")
    mlflow.log_table({"n": [2]}, "last but one.json")
    kept = json.loads(mlflow.get_run(run).data.tags["mlflow.loggedArtifacts"])
    assert [one["path"] for one in kept[-2:]] == ["last.json", "last but one.json"]
    assert len(kept) == 202


def test_a_folder_comes_back_byte_by_byte(run: str, folder: Path, tmp_path: Path) -> None:
    mlflow.log_artifacts(str(folder), "data")
    mlflow.log_artifact(str(folder / "top.txt"))
    mlflow.log_artifact(str(folder / "top.txt"), "other/place")
    back = Path(download_artifacts(run_id=run, artifact_path="data", dst_path=str(tmp_path / "back")))
    want = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(back): path.read_bytes() for path in back.rglob("*") if path.is_file()} == want
    whole = Path(download_artifacts(run_id=run, dst_path=str(tmp_path / "whole")))
    assert (whole / "other" / "place" / "top.txt").read_text() == "top"


def test_lists_are_of_one_level_with_sizes(url: str, run: str, folder: Path) -> None:
    mlflow.log_artifacts(str(folder))
    found = [(entry.path, entry.is_dir, entry.file_size) for entry in MlflowClient(url).list_artifacts(run)]
    assert found == [("deep", True, None), ("empty", False, 0), ("top.txt", False, 3)]
    deeper = list_artifacts(run_id=run, artifact_path="deep")
    assert [(entry.path, entry.is_dir) for entry in deeper] == [
        ("deep/er", True),
        ("deep/name with blank.txt", False),
    ]
    assert MlflowClient(url).list_artifacts(run, "nope") == []


def test_what_is_not_there_says_so(run: str) -> None:
    with pytest.raises(MlflowException, match=r"Failed to download artifacts from path 'nope\.txt'"):
        load_text(f"runs:/{run}/nope.txt")


def test_files_and_folders_are_deleted(url: str, run: str, folder: Path) -> None:
    mlflow.log_artifacts(str(folder))
    repository = get_artifact_repository(MlflowClient(url).get_run(run).info.artifact_uri)
    repository.delete_artifacts("top.txt")
    assert [entry.path for entry in repository.list_artifacts()] == ["deep", "empty"]
    repository.delete_artifacts("deep")
    assert [entry.path for entry in repository.list_artifacts()] == ["empty"]
    repository.delete_artifacts()
    assert repository.list_artifacts() == []


def test_a_large_file_may_go_to_the_store_in_parts(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(6 * 1024 * 1024))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(5 * 1024 * 1024))
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(11 * 1024 * 1024))
    mlflow.log_artifact(str(large), "big")
    back = download_artifacts(run_id=run, artifact_path="big/large.bin", dst_path=str(tmp_path / "back"))
    assert Path(back).read_bytes() == large.read_bytes()


def test_runs_that_ended_take_files_as_mlflows_proxy_does(url: str, run: str) -> None:
    mlflow.end_run()
    MlflowClient(url).log_text(run, json.dumps({}), "late.json")
    assert [entry.path for entry in MlflowClient(url).list_artifacts(run)] == ["late.json"]
