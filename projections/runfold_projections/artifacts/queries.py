"""Files of the artifact store, by what the log says of them."""

from dataclasses import dataclass

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file: its size in bytes, the SHA-256 of its bytes and the key of the object that holds them; time in ms since the epoch."""

    owner: str
    path: str
    size: int
    sha256: str
    object_key: str
    stored_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder holds: a file, or a folder (without a size)."""

    name: str
    is_dir: bool
    size: int | None


async def find_artifact(connection: Connection, owner: str, path: str) -> Artifact | None:
    """The file at a path."""
    if not storable(owner) or not storable(path):
        return None
    row = await connection.fetchrow(
        "SELECT owner, path, size, sha256, object_key, stored_ms FROM artifact WHERE owner = $1 AND path = $2",
        owner,
        path,
    )
    return None if row is None else Artifact(*row)


# What begins with `folder/` lies between it and `folder0` in the order of code points: 0 follows the slash.
_LISTING = """
SELECT split_part(below.rest, '/', 1) AS name, below.rest LIKE '%/%' AS is_dir,
       CASE WHEN below.rest LIKE '%/%' THEN NULL ELSE max(below.size) END AS size
FROM (
    SELECT substr(path, length($2::text) + 1) AS rest, size FROM artifact
    WHERE owner = $1 AND path >= $2 AND ($3 = '' OR path < $3)
) below
GROUP BY 1, 2 ORDER BY 1, 2 DESC
"""


async def list_artifacts(connection: Connection, owner: str, path: str) -> list[Entry]:
    """What lies directly in a folder, by name; "" is the owner's root. Empty for a file, and for what is not there."""
    if not storable(owner) or not storable(path):
        return []
    start, end = (f"{path}/", f"{path}0") if path else ("", "")
    return [Entry(*row) for row in await connection.fetch(_LISTING, owner, start, end)]
