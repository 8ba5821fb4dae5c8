"""Runs: one by its id, or a page of a search, each with its params, tags, latest metrics and inputs.

A run's stage is deleted here if the run or its experiment is deleted, as in MLflow, which marks the runs of a deleted
experiment. The fold of runs can't decide it, since experiments are in another partition, so the queries combine the
two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold_projections.postgres.connection import Connection
from runfold_projections.run_search.column_search import RunSearch
from runfold_projections.run_search.run_finder import run_ids_by_sql
from runfold_projections.run_search.run_sql import SearchScope
from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.search.sql import check_page
from runfold_projections.search.tokens import storable
from runfold_projections.search.tree import KeyKind
from runfold_projections.search.vocabulary import RUNS
from runfold_projections.series.latest import LatestMetric

from .details import Dataset, RunDetails, load_details

__all__ = [
    "Dataset",
    "LatestMetric",
    "Run",
    "RunInfo",
    "ViewType",
    "get_run",
    "needs_metrics",
    "parse_search",
    "read_search",
    "run_info",
    "runs_by_id",
    "search_runs",
]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a write to a run needs before it is appended."""

    run_id: str
    experiment_id: int
    lifecycle_stage: str
    status: str
    name: str
    artifact_uri: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run. Times are ms since the epoch by the writers' clocks; params, tags and metrics are ordered by key."""

    run_id: str
    experiment_id: int
    name: str
    user_id: str
    status: str
    start_ms: int
    end_ms: int | None
    lifecycle_stage: str
    artifact_uri: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[LatestMetric]
    datasets: list[Dataset]
    models: list[str]
    outputs: list[tuple[str, int]] = field(default_factory=list)
    """Logged models that the run created, each with its step."""
    ancestors: frozenset[str] = frozenset()
    """Runs that this one may inherit metrics from."""


_ONE = """
SELECT r.run_id, r.experiment_id, r.name, r.user_id, r.status, r.start_ms, r.end_ms, r.artifact_uri,
       CASE WHEN e.lifecycle_stage = 'deleted' THEN 'deleted' ELSE r.lifecycle_stage END AS lifecycle_stage
FROM run r LEFT JOIN experiment e USING (experiment_id)
WHERE r.run_id = $1
"""


_THESE = """
SELECT run_id, experiment_id, name, user_id, status, start_ms, end_ms, artifact_uri, lifecycle_stage
FROM run WHERE run_id = ANY ($1::text[])
"""


async def run_info(connection: Connection, run_id: str) -> RunInfo | None:
    """Return the run without its params, tags, metrics and inputs; None if it does not exist."""
    row = await _one(connection, run_id)
    return None if row is None else RunInfo(**{name: row[name] for name in RunInfo.__slots__})


async def start_times(connection: Connection, run_ids: Sequence[str]) -> dict[str, int]:
    """Return the start of each run that exists: ms since the epoch by its writer's clock."""
    rows = await connection.fetch(
        "SELECT run_id, start_ms FROM run WHERE run_id = ANY ($1::text[])",
        [run_id for run_id in run_ids if storable(run_id)],
    )
    return {row["run_id"]: row["start_ms"] for row in rows}


async def get_run(connection: Connection, run_id: str) -> Run | None:
    """Return the run of this id, deleted or not, in two round trips."""
    row = await _one(connection, run_id)
    if row is None:
        return None
    return _run(row, (await load_details(connection, [run_id]))[run_id], frozenset())


async def search_runs(
    connection: Connection,
    experiment_ids: Sequence[int],
    filter_string: str,
    view: ViewType,
    order_by: Sequence[str],
    limit: int,
    offset: int,
) -> list[Run]:
    """Return a page of the matching runs of experiments, by SQL alone. Default order: latest start first, then by id,
    as MLflow.

    Raises BadFilter for an invalid expression, BadQuery for a limit or offset out of range.
    """
    search = await parse_search(connection, experiment_ids, filter_string, view, order_by)
    check_page(limit, offset)
    if not search.scope.experiments or not limit:
        return []
    return await runs_by_id(connection, await run_ids_by_sql(connection, search, limit, offset), search.scope.deleted)


def read_search(
    experiment_ids: Sequence[int], filter_string: str, view: ViewType, order_by: Sequence[str]
) -> RunSearch:
    """Parse a search as if none of its experiments were deleted. Raises BadFilter for an invalid expression."""
    clauses, orders = RUNS.filter(filter_string), RUNS.order(order_by)
    known = tuple(sorted({number for number in experiment_ids if -(2**63) <= number < 2**63}))
    return RunSearch(SearchScope(known, frozenset(), view), clauses, orders)


async def parse_search(
    connection: Connection, experiment_ids: Sequence[int], filter_string: str, view: ViewType, order_by: Sequence[str]
) -> RunSearch:
    """Parse a search, with the deleted experiments of the connection's read transaction."""
    search = read_search(experiment_ids, filter_string, view, order_by)
    return search.where_deleted(await _deleted_among(connection, search.scope.experiments))


async def runs_by_id(connection: Connection, run_ids: Sequence[str], deleted: frozenset[int]) -> list[Run]:
    """Return these runs, in this order, in two round trips.

    `deleted` are those of their experiments that are deleted.
    """
    if not run_ids:
        return []
    rows = {row["run_id"]: row for row in await connection.fetch(_THESE, run_ids)}
    owned = await load_details(connection, run_ids)
    return [_run(rows[run_id], owned[run_id], deleted) for run_id in run_ids]


def needs_metrics(filter_string: str, order_by: Sequence[str]) -> bool:
    """Return whether the runs of a search, or their order, depend on metrics.

    Raises BadFilter as `search_runs` does.
    """
    keys = [clause.key for clause in RUNS.filter(filter_string)] + [order.key for order in RUNS.order(order_by)]
    return any(key.kind is KeyKind.METRIC for key in keys)


async def _one(connection: Connection, run_id: str) -> Any:
    return await connection.fetchrow(_ONE, run_id) if storable(run_id) else None


async def _deleted_among(connection: Connection, experiment_ids: Sequence[int]) -> frozenset[int]:
    rows = await connection.fetch(
        "SELECT experiment_id FROM experiment WHERE experiment_id = ANY ($1) AND lifecycle_stage = 'deleted'",
        experiment_ids,
    )
    return frozenset(row["experiment_id"] for row in rows)


def _run(row: Any, own: RunDetails, deleted: frozenset[int]) -> Run:
    return Run(
        run_id=row["run_id"],
        experiment_id=row["experiment_id"],
        name=row["name"],
        user_id=row["user_id"],
        status=row["status"],
        start_ms=row["start_ms"],
        end_ms=row["end_ms"],
        lifecycle_stage="deleted" if row["experiment_id"] in deleted else row["lifecycle_stage"],
        artifact_uri=row["artifact_uri"],
        params=own.params,
        tags=own.tags,
        metrics=own.metrics,
        datasets=own.datasets,
        models=own.models,
        outputs=own.outputs,
        ancestors=own.ancestors,
    )
