"""Whole runs and all their points, as stored: for exports, and for imports to compare with."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from runfold_projections.artifacts.queries import Artifact
from runfold_projections.postgres.connection import Connection
from runfold_projections.run_search.run_finder import run_ids_by_sql
from runfold_projections.runs.details import Dataset
from runfold_projections.runs.queries import parse_search
from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.segments.compacted import read_segment
from runfold_schemas.events.frames import Frame

_EVERYTHING = 2**63 - 1
_SEGMENTS_AT_ONCE = 8


@dataclass(slots=True)
class WholeRun:
    """A run without its points. `experiment` is the experiment's name; `deleted_ms` is None unless the run is deleted.

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
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """`model_id` and `step` of the logged models that it made, in the order of the log."""


class PointsPiece(NamedTuple):
    """Some points of a run that one rank of one attempt logged on a branch. `rank` None: the writer named none."""

    run_id: str
    branch: int
    attempt: str
    rank: int | None
    frame: Frame


@dataclass(frozen=True, slots=True)
class BranchRecord:
    """What one record said of how a run's points hang together (see folds/lineage.py), in the order of the log.

    `attempt_branch` is set where an attempt appears that opens one, `cut` is the number of a rewind, which opens the
    branch of that number, or of a declared start. `rank` None: of all ranks. `step` is the last one that is kept, or
    inherited; or the declared start.
    """

    run_id: str
    kind: Literal["appeared", "started", "rewound", "forked"]
    attempt: str
    attempt_branch: int | None = None
    cut: int | None = None
    rank: int | None = None
    step: int | None = None
    world_size: int | None = None
    parent_run_id: str | None = None
    parent_branch: int | None = None


async def experiment_ids(connection: Connection, workspace: str, names: Sequence[str] | None = None) -> dict[str, int]:
    """A workspace's experiments by name, deleted ones too; with `names`, those of them that exist."""
    rows = await connection.fetch(
        """
        SELECT name, experiment_id FROM experiment
        WHERE workspace = $1 AND ($2::text[] IS NULL OR name = ANY ($2)) ORDER BY name COLLATE "C"
        """,
        workspace,
        None if names is None else list(names),
    )
    return {row["name"]: row["experiment_id"] for row in rows}


async def chosen_runs(
    connection: Connection, experiments: Sequence[int], filter_string: str = "", run_ids: Sequence[str] | None = None
) -> list[str]:
    """Return the ids, in order, of the experiments' matching runs, deleted ones too; with `run_ids`, only of these.

    BadFilter as in `search_runs`.
    """
    search = await parse_search(connection, experiments, filter_string, ViewType.ALL, [])
    found = await run_ids_by_sql(connection, search, _EVERYTHING, 0) if search.scope.experiments else []
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


async def whole_runs(connection: Connection, run_ids: Sequence[str]) -> list[WholeRun]:
    """Those of these runs that are there, ordered by id. Must run in a snapshot: it takes several statements."""
    ids = list(run_ids)
    found = {row["run_id"]: WholeRun(**dict(row)) for row in await connection.fetch(_HEADS, ids)}
    ids = list(found)
    for row in await connection.fetch(
        "SELECT run_id, key, value FROM run_param WHERE run_id = ANY ($1::text[]) ORDER BY run_id, key", ids
    ):
        found[row["run_id"]].params[row["key"]] = row["value"]
    for row in await connection.fetch(
        "SELECT run_id, key, value FROM run_tag WHERE run_id = ANY ($1::text[]) ORDER BY run_id, key", ids
    ):
        found[row["run_id"]].tags[row["key"]] = row["value"]
    for row in await connection.fetch(_DATASETS, ids):
        found[row["run_id"]].datasets.append(Dataset(*tuple(row)[1:]))
    for row in await connection.fetch(
        "SELECT run_id, model_id FROM run_model WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal", ids
    ):
        found[row["run_id"]].models.append(row["model_id"])
    for row in await connection.fetch(
        "SELECT run_id, model_id, step FROM run_output WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal", ids
    ):
        found[row["run_id"]].outputs.append({"model_id": row["model_id"], "step": row["step"]})
    for row in await connection.fetch(_ARTIFACTS, ids):
        found[row["owner"]].artifacts.append(Artifact(*row))
    return list(found.values())


async def point_count(connection: Connection, run_ids: Sequence[str]) -> int:
    """Count the points in these runs' segments; a point that was logged twice may count twice."""
    query = "SELECT coalesce(sum(points), 0)::bigint FROM segment WHERE run_id = ANY ($1::text[])"
    count: int = await connection.fetchval(query, list(run_ids))
    return count


_LINES = """
SELECT run_id, first_offset AS at, 'attempt' AS kind, attempt, ordinal, branch AS number, NULL::integer AS rank,
       NULL::bigint AS step, NULL::boolean AS opens, NULL::integer AS world_size,
       NULL::text AS parent, NULL::integer AS parent_branch
FROM attempt WHERE run_id = ANY ($1::text[])
UNION ALL
SELECT run_id, log_offset, 'start', attempt, NULL, NULL, NULL, start_step, NULL, world_size, NULL, NULL
FROM attempt_start WHERE run_id = ANY ($1::text[])
UNION ALL
SELECT run_id, log_offset, 'cut', NULL, attempt, number, rank, step, opens, NULL, NULL, NULL
FROM cut WHERE run_id = ANY ($1::text[])
UNION ALL
SELECT run_id, log_offset, 'fork', NULL, NULL, NULL, NULL, step, NULL, NULL, parent_run_id, parent_branch
FROM fork WHERE run_id = ANY ($1::text[])
ORDER BY run_id, at
"""


async def branch_records(connection: Connection, run_ids: Sequence[str]) -> list[BranchRecord]:
    """Read the records of these runs' attempts, rewinds, starts and forks, by run, in the order of the log."""
    found: list[BranchRecord] = []
    for _, of_run in groupby(await connection.fetch(_LINES, list(run_ids)), itemgetter("run_id")):
        attempts = _AttemptNames()
        found += [attempts.record({row["kind"]: row for row in rows}) for _, rows in groupby(of_run, itemgetter("at"))]
    return found


class _AttemptNames:
    """Derives the attempt that wrote each record of a run. The tables keep it only where it matters."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._declared: set[str] = set()
        self._starts: list[Any] = []

    def record(self, parts: dict[str, Any]) -> BranchRecord:
        attempt, start, cut, fork = [parts.get(kind) for kind in ("attempt", "start", "cut", "fork")]
        run_id = next(iter(parts.values()))["run_id"]
        name = self._name(attempt, start, cut)
        branch = attempt["number"] or None if attempt else None
        number, rank, step = (cut["number"], cut["rank"], cut["step"]) if cut else (None, None, None)
        if fork:
            return BranchRecord(
                run_id,
                "forked",
                name,
                branch,
                step=fork["step"],
                parent_run_id=fork["parent"],
                parent_branch=fork["parent_branch"],
            )
        if cut and cut["opens"]:
            return BranchRecord(run_id, "rewound", name, branch, number, rank, step)
        if not start and not cut:
            return BranchRecord(run_id, "appeared", name, branch)
        self._declared.add(name)
        if cut:
            self._starts.append(cut)
        elif start and start["step"] is not None:
            # Said again, and less than what was said: by a writer whose rank makes that so.
            step = start["step"]
            acting = max((n for n, known in self._names.items() if known == name or (known and not name)), default=-1)
            said = [one for one in self._starts if one["ordinal"] == acting and one["step"] <= step]
            covering = [one["rank"] for one in said]
            rank = None if None in covering else next(iter(covering), None)
        return BranchRecord(run_id, "started", name, branch, number, rank, step, start["world_size"] if start else None)

    def _name(self, attempt: Any, start: Any, cut: Any) -> str:
        if attempt:
            self._names[attempt["ordinal"]] = attempt["attempt"]
            return str(attempt["attempt"])
        if start:
            return str(start["attempt"])
        if cut is None:
            # A fork says nothing of its attempt.
            return next(iter(self._names.values()), "")
        name = self._names.get(cut["ordinal"], "")
        # A repeated start follows a declared one of the same attempt; otherwise its writer names no attempt.
        return name if cut["opens"] or name in self._declared else ""


# By branch, then by attempt in the order of the log: appending branch records and points in this order restores the
# same branches.
_SEGMENTS = """
SELECT s.run_id, s.branch, s.attempt, s.rank, s.head, s.data
FROM segment s LEFT JOIN attempt a USING (run_id, attempt)
WHERE s.run_id = ANY ($1::text[])
ORDER BY s.run_id, s.branch, a.ordinal, s.attempt, s.rank, s.first_offset, s.first_key
"""


async def point_pieces(connection: Connection, run_ids: Sequence[str]) -> AsyncIterator[PointsPiece]:
    """Read all points of these runs, by run, branch, attempt and rank, a few segments at a time.

    Needs a transaction.
    """
    async for row in connection.cursor(_SEGMENTS, list(run_ids), prefetch=_SEGMENTS_AT_ONCE):
        rank = None if row["rank"] < 0 else row["rank"]
        for frame in read_segment(row["head"], row["data"]):
            yield PointsPiece(row["run_id"], row["branch"], row["attempt"], rank, frame)
