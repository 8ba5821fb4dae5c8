"""Whole runs and all their points, as they lie in the tables: for an export, and for looking at what an import would meet."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runfold_schemas.frames import Frame

from ..database import Connection
from ..packs import read_segment
from ..search.view import ViewType
from .artifacts import Artifact
from .belongings import Dataset
from .run_finder import run_ids_by_sql
from .runs import parse_search

_EVERYTHING = 2**63 - 1
_SEGMENTS_AT_ONCE = 8


@dataclass(slots=True)
class WholeRun:
    """A run with all but its points. `experiment` is its experiment's name; `deleted_ms` is None unless the run itself is deleted.

    Times in ms since the epoch by the writers' clocks. `created_by` is the id of the event that made it.
    """

    run_id: str
    experiment: str
    name: str
    user_id: str
    status: str
    start_ms: int
    end_ms: int | None
    deleted_ms: int | None
    artifact_uri: str
    created_by: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[Dataset] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)


class Piece(NamedTuple):
    """Some points of a run that one rank of one attempt logged. `rank` None: the writer named none."""

    run_id: str
    attempt: str
    rank: int | None
    frame: Frame


async def experiment_ids(conn: Connection, workspace: str, names: Sequence[str] | None = None) -> dict[str, int]:
    """A workspace's experiments by name, deleted ones too; with `names`, those of them that exist."""
    rows = await conn.fetch(
        """
        SELECT name, experiment_id FROM experiment
        WHERE workspace = $1 AND ($2::text[] IS NULL OR name = ANY ($2)) ORDER BY name COLLATE "C"
        """,
        workspace,
        None if names is None else list(names),
    )
    return {row["name"]: row["experiment_id"] for row in rows}


async def chosen_runs(
    conn: Connection, experiments: Sequence[int], filter_string: str = "", run_ids: Sequence[str] | None = None
) -> list[str]:
    """Ids of the experiments' runs that match, deleted ones too, in order; with `run_ids`, only these. BadFilter as `search_runs`."""
    search = await parse_search(conn, experiments, filter_string, ViewType.ALL, [])
    found = await run_ids_by_sql(conn, search, _EVERYTHING, 0) if search.scope.experiments else []
    return sorted(found if run_ids is None else set(found) & set(run_ids))


_HEADS = """
SELECT r.run_id, e.name AS experiment, r.name, r.user_id, r.status, r.start_ms, r.end_ms, r.deleted_ms, r.artifact_uri,
       r.created_by::text AS created_by
FROM run r JOIN experiment e USING (experiment_id)
WHERE r.run_id = ANY ($1::text[]) ORDER BY r.run_id
"""
_DATASETS = """
SELECT run_id, name, digest, source_type, source, schema, profile, tags FROM run_dataset
WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal
"""
_ARTIFACTS = """
SELECT owner, path, size, sha256, object_key, stored_ms FROM artifact
WHERE owner = ANY ($1::text[]) ORDER BY owner, path
"""


async def whole_runs(conn: Connection, run_ids: Sequence[str]) -> list[WholeRun]:
    """Those of these runs that are there, ordered by id. Must run in a snapshot: it takes several statements."""
    ids = list(run_ids)
    found = {row["run_id"]: WholeRun(**dict(row)) for row in await conn.fetch(_HEADS, ids)}
    ids = list(found)
    for row in await conn.fetch(
        "SELECT run_id, key, value FROM run_param WHERE run_id = ANY ($1::text[]) ORDER BY run_id, key", ids
    ):
        found[row["run_id"]].params[row["key"]] = row["value"]
    for row in await conn.fetch(
        "SELECT run_id, key, value FROM run_tag WHERE run_id = ANY ($1::text[]) ORDER BY run_id, key", ids
    ):
        found[row["run_id"]].tags[row["key"]] = row["value"]
    for row in await conn.fetch(_DATASETS, ids):
        found[row["run_id"]].datasets.append(Dataset(*tuple(row)[1:]))
    for row in await conn.fetch(
        "SELECT run_id, model_id FROM run_model WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal", ids
    ):
        found[row["run_id"]].models.append(row["model_id"])
    for row in await conn.fetch(_ARTIFACTS, ids):
        found[row["owner"]].artifacts.append(Artifact(*row))
    return list(found.values())


async def point_count(conn: Connection, run_ids: Sequence[str]) -> int:
    """How many points these runs' segments hold; one that was logged twice may count twice."""
    query = "SELECT coalesce(sum(points), 0)::bigint FROM segment WHERE run_id = ANY ($1::text[])"
    count: int = await conn.fetchval(query, list(run_ids))
    return count


# Attempts in the order in which the log saw them first, so that whoever appends the points in this order keeps theirs.
_SEGMENTS = """
SELECT s.run_id, s.attempt, s.rank, s.head, s.data
FROM segment s LEFT JOIN attempt a USING (run_id, attempt)
WHERE s.run_id = ANY ($1::text[])
ORDER BY s.run_id, a.ordinal, s.attempt, s.rank, s.first_offset, s.first_key
"""


async def pieces(conn: Connection, run_ids: Sequence[str]) -> AsyncIterator[Piece]:
    """All points of these runs, by run, attempt and rank. Must run in a transaction; memory holds a few segments at a time."""
    async for row in conn.cursor(_SEGMENTS, list(run_ids), prefetch=_SEGMENTS_AT_ONCE):
        rank = None if row["rank"] < 0 else row["rank"]
        for frame in read_segment(row["head"], row["data"]):
            yield Piece(row["run_id"], row["attempt"], rank, frame)
