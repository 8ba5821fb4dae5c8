"""Files as of a moment of the log. Objects are never overwritten or deleted, so their bytes exist as well."""

import asyncio
from collections.abc import Iterable, Sequence

from runfold_projections.history.cutoff import run_end_offset
from runfold_projections.history.journal import decode_entries
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.wire import decode, schema_id_of
from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .fold import Artifacts
from .queries import Artifact, FolderEntry

_FACTS = frozenset([ArtifactStored.subject, ArtifactsDeleted.subject])


async def artifacts_at(connection: Connection, owner: str, vector: Vector) -> list[Artifact]:
    """Return all files of an owner, by path."""
    if not storable(owner):
        return []
    end = run_end_offset(vector, Topic.RUNS, owner)
    rows = await connection.fetch(_OF_OWNER, owner, end)
    return await asyncio.to_thread(_folded, [row["data"] for row in rows], end)


def _folded(rows: Sequence[bytes], end: int) -> list[Artifact]:
    catalog, found = released_catalog(), Artifacts()
    for data in rows:
        for entry in decode_entries(data):
            # Most events of a run do not concern files: they are not decoded.
            if entry.offset < end and not entry.code and catalog.get(schema_id_of(entry.value)).subject in _FACTS:
                event = decode(entry.value)
                assert isinstance(event, (ArtifactStored, ArtifactsDeleted))
                found.fold(event, entry.time_ms)
    return [Artifact(owner, path, *file) for (owner, path), file in sorted(found.stored.items())]


def entries_of(artifacts: Iterable[Artifact], path: str) -> list[FolderEntry]:
    """Return the entries of a folder, by name, as `list_artifacts` does; "" is the owner's root."""
    start = f"{path}/" if path else ""
    found: dict[tuple[str, bool], int | None] = {}
    for artifact in artifacts:
        if artifact.path.startswith(start):
            name, slash, _ = artifact.path.removeprefix(start).partition("/")
            found[name, bool(slash)] = None if slash else artifact.size
    # The order of the database: of two entries of one name the folder comes first.
    return [FolderEntry(name, is_dir, size) for (name, is_dir), size in sorted(found.items(), key=_place)]


def _place(item: tuple[tuple[str, bool], int | None]) -> tuple[str, bool]:
    (name, is_dir), _ = item
    return name, not is_dir


_OF_OWNER = """
SELECT data FROM journal WHERE projection = 'runs' AND entity = $1 AND first_offset < $2 ORDER BY first_offset
"""
