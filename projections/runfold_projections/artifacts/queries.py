"""Files of the artifact store, as the log describes them."""

from dataclasses import dataclass

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file: its size in bytes, the SHA-256 of its bytes, and the key of the object that holds them.

    `stored_ms` is ms since the epoch by the writer's clock.
    """

    owner: str
    path: str
    size: int
    sha256: str
    object_key: str
    stored_ms: int


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """An entry of a folder: a file, or a folder (size None)."""

    name: str
    is_dir: bool
    size: int | None


async def find_artifact(connection: Connection, owner: str, path: str) -> Artifact | None:
    """Return the file at a path; None if there is none."""
    if not storable(owner) or not storable(path):
        return None
    row = await connection.fetchrow(
        "SELECT owner, path, size, sha256, object_key, stored_ms FROM artifact WHERE owner = $1 AND path = $2",
        owner,
        path,
    )
    return None if row is None else Artifact(*row)


# Paths that begin with `folder/` are those between it and `folder0` in code point order: 0 follows the slash.
_LISTING = """
SELECT split_part(below.rest, '/', 1) AS name, below.rest LIKE '%/%' AS is_dir,
       CASE WHEN below.rest LIKE '%/%' THEN NULL ELSE max(below.size) END AS size
FROM (
    SELECT substr(path, length($2::text) + 1) AS rest, size FROM artifact
    WHERE owner = $1 AND path >= $2 AND ($3 = '' OR path < $3)
) below
GROUP BY 1, 2 ORDER BY 1, 2 DESC
"""


async def list_artifacts(connection: Connection, owner: str, path: str) -> list[FolderEntry]:
    """Return the entries of a folder, by name; "" is the owner's root. Empty for a file and for a missing path."""
    if not storable(owner) or not storable(path):
        return []
    start, end = (f"{path}/", f"{path}0") if path else ("", "")
    return [FolderEntry(*row) for row in await connection.fetch(_LISTING, owner, start, end)]
