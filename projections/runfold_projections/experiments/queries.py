"""Experiments: by id, by name, by the event that created them, by a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.lifecycle_view import ViewType
from runfold_projections.search.tokens import storable
from runfold_projections.search.vocabulary import EXPERIMENTS

from .search_sql import page_of_experiments

__all__ = [
    "Experiment",
    "ViewType",
    "experiment_created_by",
    "get_experiment",
    "get_experiment_by_name",
    "search_experiments",
]


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment. Times are ms since the epoch by the writers' clocks; `lifecycle_stage` is active or deleted."""

    experiment_id: int
    workspace: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    created_ms: int
    updated_ms: int
    tags: dict[str, str]


_COLUMNS = """
SELECT x.experiment_id, x.workspace, x.name, x.artifact_location, x.lifecycle_stage, x.created_ms, x.updated_ms,
       tags.keys AS tag_keys, tags.values AS tag_values
"""
_TAGS = """
CROSS JOIN LATERAL (
    SELECT array_agg(t.key) AS keys, array_agg(t.value) AS values
    FROM (SELECT key, value FROM experiment_tag WHERE experiment_id = x.experiment_id ORDER BY key) t
) tags
"""
_BY_ID = _COLUMNS + "FROM experiment x" + _TAGS + "WHERE x.experiment_id = $1"
_BY_NAME = _COLUMNS + "FROM experiment x" + _TAGS + "WHERE x.workspace = $1 AND x.name = $2"
_BY_EVENT = _COLUMNS + "FROM experiment x" + _TAGS + "WHERE x.created_by = $1 ORDER BY x.experiment_id LIMIT 1"
_BY_IDS = (
    _COLUMNS
    + "FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (experiment_id, place) "
    + "JOIN experiment x USING (experiment_id)"
    + _TAGS
    + "ORDER BY wanted.place"
)


async def get_experiment(connection: Connection, experiment_id: int) -> Experiment | None:
    """Return the experiment of this id, deleted or not."""
    if not -(2**63) <= experiment_id < 2**63:
        return None
    return _experiment(await connection.fetchrow(_BY_ID, experiment_id))


async def get_experiment_by_name(connection: Connection, workspace: str, name: str) -> Experiment | None:
    """Return the experiment of this name, deleted or not: deleted ones keep their names."""
    if not storable(workspace) or not storable(name):
        return None
    return _experiment(await connection.fetchrow(_BY_NAME, workspace, name))


async def experiment_created_by(connection: Connection, event_id: str) -> Experiment | None:
    """Return the experiment that this `ExperimentCreated` event created; None if it was rejected."""
    try:
        event = UUID(event_id)
    except ValueError:
        return None
    return _experiment(await connection.fetchrow(_BY_EVENT, event))


async def search_experiments(
    connection: Connection,
    workspace: str,
    view: ViewType,
    filter_string: str,
    order_by: Sequence[str],
    limit: int,
    offset: int,
) -> list[Experiment]:
    """Return a page of the matching experiments of a workspace. The default order is MLflow's: newest first, then by
    id.

    Raises BadFilter for an invalid expression, BadQuery for a limit or offset out of range.
    """
    clauses, orders = EXPERIMENTS.filter(filter_string), EXPERIMENTS.order(order_by)
    statement = page_of_experiments(workspace, clauses, view, orders, limit, offset)
    if not storable(workspace):
        return []
    ids = [row["experiment_id"] for row in await connection.fetch(statement.text, *statement.values)]
    found = [_experiment(row) for row in await connection.fetch(_BY_IDS, ids)] if ids else []
    return [experiment for experiment in found if experiment is not None]


def _experiment(row: Any) -> Experiment | None:
    if row is None:
        return None
    return Experiment(
        row["experiment_id"],
        row["workspace"],
        row["name"],
        row["artifact_location"],
        row["lifecycle_stage"],
        row["created_ms"],
        row["updated_ms"],
        dict(zip(row["tag_keys"] or (), row["tag_values"] or (), strict=True)),
    )
