"""Runs as they are: one by its id, or a page of a search, each with its params, tags, latest metrics and inputs.

A run's stage here is the one that counts: deleted if the run or its experiment is, as MLflow marks the runs of an experiment that is
deleted. The fold of runs can't know it, since experiments live in another partition; so the queries combine the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..database import Connection
from ..search.run_sql import Scope, page_of_runs
from ..search.tokens import storable
from ..search.tree import Kind
from ..search.view import ViewType
from ..search.vocabulary import RUNS
from .belongings import Belongings, Dataset, belongings
from .metrics import LatestMetric

__all__ = [
    "Dataset",
    "LatestMetric",
    "Run",
    "RunHead",
    "ViewType",
    "get_run",
    "needs_metrics",
    "run_head",
    "search_runs",
]


@dataclass(frozen=True, slots=True)
class RunHead:
    """What a write to a run has to know before it is appended."""

    run_id: str
    experiment_id: int
    lifecycle_stage: str
    status: str
    name: str
    artifact_uri: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run; times in ms since the epoch by the writers' clocks. Params, tags and metrics are in the order of their keys."""

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


_ONE = """
SELECT r.run_id, r.experiment_id, r.name, r.user_id, r.status, r.start_ms, r.end_ms, r.artifact_uri,
       CASE WHEN e.lifecycle_stage = 'deleted' THEN 'deleted' ELSE r.lifecycle_stage END AS lifecycle_stage
FROM run r LEFT JOIN experiment e USING (experiment_id)
WHERE r.run_id = $1
"""


async def run_head(conn: Connection, run_id: str) -> RunHead | None:
    """The run without its params, tags, metrics and inputs."""
    row = await _one(conn, run_id)
    return None if row is None else RunHead(**{name: row[name] for name in RunHead.__slots__})


async def get_run(conn: Connection, run_id: str) -> Run | None:
    """The run of this id, deleted or not, in two round trips."""
    row = await _one(conn, run_id)
    return None if row is None else (await _whole(conn, [row]))[0]


async def search_runs(
    conn: Connection,
    experiment_ids: Sequence[int],
    filter_string: str,
    view: ViewType,
    order_by: Sequence[str],
    limit: int,
    offset: int,
) -> list[Run]:
    """A page of the experiments' runs that match, in three round trips. Default order: latest start first, then by id, as MLflow.

    BadFilter for an expression that can't be read, BadQuery for a limit or offset out of range.
    """
    clauses, orders = RUNS.filter(filter_string), RUNS.order(order_by)
    known = [experiment_id for experiment_id in dict.fromkeys(experiment_ids) if -(2**63) <= experiment_id < 2**63]
    scope = Scope(known, await _deleted_among(conn, known), view)
    statement = page_of_runs(scope, clauses, orders, limit, offset)
    if not known or not limit:
        return []
    rows = await conn.fetch(statement.text, *statement.values)
    return await _whole(conn, rows, scope.deleted)


def needs_metrics(filter_string: str, order_by: Sequence[str]) -> bool:
    """Whether which runs a search finds, or their order, hangs on metrics. BadFilter as `search_runs`."""
    keys = [clause.key for clause in RUNS.filter(filter_string)] + [order.key for order in RUNS.order(order_by)]
    return any(key.kind is Kind.METRIC for key in keys)


async def _one(conn: Connection, run_id: str) -> Any:
    return await conn.fetchrow(_ONE, run_id) if storable(run_id) else None


async def _deleted_among(conn: Connection, experiment_ids: Sequence[int]) -> frozenset[int]:
    rows = await conn.fetch(
        "SELECT experiment_id FROM experiment WHERE experiment_id = ANY ($1) AND lifecycle_stage = 'deleted'",
        experiment_ids,
    )
    return frozenset(row["experiment_id"] for row in rows)


async def _whole(conn: Connection, rows: Sequence[Any], deleted: frozenset[int] = frozenset()) -> list[Run]:
    if not rows:
        return []
    owned = await belongings(conn, [row["run_id"] for row in rows])
    return [_run(row, owned[row["run_id"]], deleted) for row in rows]


def _run(row: Any, own: Belongings, deleted: frozenset[int]) -> Run:
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
    )
