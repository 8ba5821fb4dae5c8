"""Runs as they are: one by its id, or a page of a search, each with its params, tags, latest metrics and inputs.

A run's stage here is the one that counts: deleted if the run or its experiment is, as MLflow marks the runs of an experiment that is
deleted. The fold of runs can't know it, since experiments live in another partition; so the queries combine the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..database import Connection
from ..search.run_sql import page_of_runs
from ..search.tokens import storable
from ..search.tree import Kind
from ..search.view import ViewType
from ..search.vocabulary import RUNS
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
class Dataset:
    """One use of a data set by the run. `schema` and `profile` are what the writer sent, mostly JSON."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: dict[str, str]


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


_STAGE = "CASE WHEN e.lifecycle_stage = 'deleted' THEN 'deleted' ELSE r.lifecycle_stage END AS lifecycle_stage"

_HEAD = "\n".join(
    (
        "SELECT r.run_id, r.experiment_id, " + _STAGE + ", r.status, r.name, r.artifact_uri",
        "FROM run r LEFT JOIN experiment e USING (experiment_id)",
        "WHERE r.run_id = $1",
    )
)

# Arrays per column: asyncpg reads them much faster than a row per param or JSON. Each table is read in its key's order.
_LOAD = "\n".join(
    (
        "SELECT r.run_id, r.experiment_id, r.name, r.user_id, r.status, r.start_ms, r.end_ms, r.artifact_uri, "
        + _STAGE,
        """,
       p.keys AS param_keys, p.values AS param_values, t.keys AS tag_keys, t.values AS tag_values,
       m.keys AS metric_keys, m.values AS metric_values, m.steps, m.times, m.model_ids, m.dataset_names, m.dataset_digests,
       d.names, d.digests, d.source_types, d.sources, d.schemas, d.profiles, d.tags AS dataset_tags, o.models
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (run_id, place)
JOIN run r USING (run_id)
LEFT JOIN experiment e USING (experiment_id)
CROSS JOIN LATERAL (
    SELECT array_agg(key) AS keys, array_agg(value) AS values
    FROM (SELECT key, value FROM run_param WHERE run_id = r.run_id ORDER BY key) _
) p
CROSS JOIN LATERAL (
    SELECT array_agg(key) AS keys, array_agg(value) AS values
    FROM (SELECT key, value FROM run_tag WHERE run_id = r.run_id ORDER BY key) _
) t
CROSS JOIN LATERAL (
    SELECT array_agg(key) AS keys, array_agg(value) AS values, array_agg(step) AS steps, array_agg(time_ms) AS times,
           array_agg(model_id) AS model_ids, array_agg(dataset_name) AS dataset_names,
           array_agg(dataset_digest) AS dataset_digests
    FROM (SELECT * FROM metric WHERE run_id = r.run_id ORDER BY key) _
) m
CROSS JOIN LATERAL (
    SELECT array_agg(name) AS names, array_agg(digest) AS digests, array_agg(source_type) AS source_types,
           array_agg(source) AS sources, array_agg(schema) AS schemas, array_agg(profile) AS profiles,
           array_agg(tags) AS tags
    FROM (SELECT * FROM run_dataset WHERE run_id = r.run_id ORDER BY ordinal) _
) d
CROSS JOIN LATERAL (
    SELECT array_agg(model_id) AS models
    FROM (SELECT model_id FROM run_model WHERE run_id = r.run_id ORDER BY ordinal) _
) o
ORDER BY wanted.place
""",
    )
)


async def run_head(conn: Connection, run_id: str) -> RunHead | None:
    """The run without its params, tags, metrics and inputs."""
    if not storable(run_id):
        return None
    row = await conn.fetchrow(_HEAD, run_id)
    return None if row is None else RunHead(**row)


async def get_run(conn: Connection, run_id: str) -> Run | None:
    """The run of this id, deleted or not, in one round trip."""
    if not storable(run_id):
        return None
    found = await _load(conn, [run_id])
    return found[0] if found else None


async def search_runs(
    conn: Connection,
    experiment_ids: Sequence[int],
    filter_string: str,
    view: ViewType,
    order_by: Sequence[str],
    limit: int,
    offset: int,
) -> list[Run]:
    """A page of the experiments' runs that match, in two round trips. Default order: latest start first, then by id, as MLflow.

    BadFilter for an expression that can't be read, BadQuery for a limit or offset out of range.
    """
    clauses, orders = RUNS.filter(filter_string), RUNS.order(order_by)
    known = [experiment_id for experiment_id in dict.fromkeys(experiment_ids) if -(2**63) <= experiment_id < 2**63]
    statement = page_of_runs(known, clauses, view, orders, limit, offset)
    if not known or not limit:
        return []
    rows = await conn.fetch(statement.text, *statement.values)
    return await _load(conn, [row["run_id"] for row in rows])


def needs_metrics(filter_string: str, order_by: Sequence[str]) -> bool:
    """Whether which runs a search finds, or their order, hangs on metrics. BadFilter as `search_runs`."""
    keys = [clause.key for clause in RUNS.filter(filter_string)] + [order.key for order in RUNS.order(order_by)]
    return any(key.kind is Kind.METRIC for key in keys)


async def _load(conn: Connection, run_ids: Sequence[str]) -> list[Run]:
    if not run_ids:
        return []
    return [_run(row) for row in await conn.fetch(_LOAD, run_ids)]


def _run(row: Any) -> Run:
    return Run(
        run_id=row["run_id"],
        experiment_id=row["experiment_id"],
        name=row["name"],
        user_id=row["user_id"],
        status=row["status"],
        start_ms=row["start_ms"],
        end_ms=row["end_ms"],
        lifecycle_stage=row["lifecycle_stage"],
        artifact_uri=row["artifact_uri"],
        params=dict(_together(row, "param_keys", "param_values")),
        tags=dict(_together(row, "tag_keys", "tag_values")),
        metrics=[
            LatestMetric(*columns)
            for columns in _together(
                row, "metric_keys", "metric_values", "steps", "times", "model_ids", "dataset_names", "dataset_digests"
            )
        ],
        datasets=[
            Dataset(*columns)
            for columns in _together(
                row, "names", "digests", "source_types", "sources", "schemas", "profiles", "dataset_tags"
            )
        ],
        models=row["models"] or [],
    )


def _together(row: Any, *columns: str) -> Any:
    """The rows that array_agg took apart; it answers NULL where there were none."""
    return zip(*(row[column] or () for column in columns), strict=True)
