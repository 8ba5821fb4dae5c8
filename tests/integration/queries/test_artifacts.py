"""Files as the log tells of them: found by path, listed folder by folder."""

from collections.abc import AsyncIterator

import pytest

from runfold_projections.artifacts.queries import Artifact, FolderEntry, find_artifact, list_artifacts
from runfold_projections.postgres.connection import Connection, open_connection
from tests.support.services.postgres import Namespace, namespace, postgres_dsn

__all__ = ["namespace", "postgres_dsn"]

FILES = ("model/MLmodel", "model/data/a.bin", "model/data/b.bin", "model.txt", "model0", "ü b%_.txt", "both", "both/x")


@pytest.fixture
async def connection(namespace: Namespace) -> AsyncIterator[Connection]:
    async with (
        open_connection(namespace.dsn, namespace.name, application="test") as connection,
        connection.transaction(),
    ):
        for n, path in enumerate(FILES):
            await connection.execute("INSERT INTO artifact VALUES ('r', $1, $2, 'hash', 'key', 7)", path, n)
        await connection.execute("INSERT INTO artifact VALUES ('other', 'model/else', 1, 'hash', 'key', 7)")
        yield connection


async def listed(connection: Connection, path: str) -> list[tuple[str, bool, int | None]]:
    return [(entry.name, entry.is_dir, entry.size) for entry in await list_artifacts(connection, "r", path)]


async def test_a_folder_is_listed_by_name_with_its_folders_and_the_sizes_of_its_files(connection: Connection) -> None:
    assert await listed(connection, "model") == [("MLmodel", False, 0), ("data", True, None)]
    assert await listed(connection, "model/data") == [("a.bin", False, 1), ("b.bin", False, 2)]
    assert await listed(connection, "") == [
        ("both", True, None),
        ("both", False, 6),
        ("model", True, None),
        ("model.txt", False, 3),
        ("model0", False, 4),
        ("ü b%_.txt", False, 5),
    ]


@pytest.mark.parametrize("path", ["model.txt", "mod", "absent", "model/data/a.bin", "mode_", "nul\x00"])
async def test_what_is_no_folder_lists_nothing(connection: Connection, path: str) -> None:
    assert await listed(connection, path) == []


async def test_a_file_is_found_by_owner_and_path(connection: Connection) -> None:
    assert await find_artifact(connection, "r", "model/MLmodel") == Artifact("r", "model/MLmodel", 0, "hash", "key", 7)
    assert await find_artifact(connection, "r", "model/else") is None
    assert await find_artifact(connection, "r", "model") is None
    assert await list_artifacts(connection, "other", "model") == [FolderEntry("else", False, 1)]
