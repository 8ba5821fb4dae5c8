"""Logged models: one by its id, or a page of a search, each with its params, tags and metrics.

Metrics come from another projection: rows of the runs that measured them, joined by the model's id. So do the versions
created from a model: they are shown in the tag that MLflow's server and client keep for them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.events.logged_models import ModelStatus

from .search_sql import ModelSearch, page_of_models

__all__ = [
    "LoggedModel",
    "MeasuredMetric",
    "ModelSearch",
    "get_logged_model",
    "logged_model_origin_of",
    "search_logged_models",
]


class MeasuredMetric(NamedTuple):
    """The latest value (largest time, step, value) of a key that one run measured on one dataset, or on none."""

    key: str
    value: float
    step: int
    time_ms: int
    model_id: str
    dataset_name: str | None
    dataset_digest: str | None
    run_id: str


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A logged model. Times are ms since the epoch by the writers' clocks; `status` is PENDING, READY or FAILED.

    Params and tags are ordered by key, metrics by key, run and dataset.
    """

    model_id: str
    experiment_id: int
    name: str
    artifact_uri: str
    model_type: str | None
    source_run_id: str | None
    status: ModelStatus
    lifecycle_stage: str
    created_ms: int
    updated_ms: int
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[MeasuredMetric] = field(default_factory=list)


_HEADS = """
SELECT m.model_id, m.experiment_id, m.name, m.artifact_uri, m.model_type, m.source_run_id, m.status, m.lifecycle_stage,
       m.created_ms, m.updated_ms
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (model_id, place) JOIN logged_model m USING (model_id)
WHERE m.workspace = $2 ORDER BY wanted.place
"""
# Rows of one shape, in one round trip.
_OWN = """
SELECT 'params' AS kind, model_id, key, value, NULL::double precision AS number, NULL::bigint AS step,
    NULL::bigint AS time_ms,
       NULL AS dataset_name, NULL AS dataset_digest, NULL AS run_id
FROM logged_model_param WHERE model_id = ANY ($1::text[])
UNION ALL
SELECT 'tags', model_id, key, value, NULL, NULL, NULL, NULL, NULL, NULL
FROM logged_model_tag WHERE model_id = ANY ($1::text[])
UNION ALL
SELECT 'metrics', x.model_id, x.key, NULL, x.value, x.step, x.time_ms, nullif(x.dataset_name, ''),
    nullif(x.dataset_digest, ''), x.run_id
FROM model_metric x WHERE x.model_id = ANY ($1::text[]) AND EXISTS (SELECT FROM run r WHERE r.run_id = x.run_id)
UNION ALL
SELECT 'versions', v.model_id, m.name, v.version::text, NULL, v.version, v.log_offset, NULL, NULL, NULL
FROM model_version v JOIN registered_model m USING (born) WHERE v.model_id = ANY ($1::text[]) AND m.workspace = $2
    AND NOT m.is_prompt
ORDER BY kind, key, run_id, dataset_name, dataset_digest, step
"""
_ORIGIN = """
SELECT artifact_uri, source_run_id FROM logged_model
WHERE model_id = $1 AND workspace = $2 AND lifecycle_stage <> 'deleted'
"""
VERSIONS_TAG = "mlflow.modelVersions"


async def get_logged_model(connection: Connection, workspace: str, model_id: str) -> LoggedModel | None:
    """Return the model of this id, deleted or not, in two round trips."""
    found = await _these(connection, workspace, [model_id]) if storable(model_id) else []
    return found[0] if found else None


async def logged_model_origin_of(
    connection: Connection, workspace: str, model_id: str
) -> tuple[str, str | None] | None:
    """Return the artifact root of a model that is not deleted, and the run that created it."""
    row = (
        await connection.fetchrow(_ORIGIN, model_id, workspace) if storable(model_id) and storable(workspace) else None
    )
    return None if row is None else (row["artifact_uri"], row["source_run_id"])


async def search_logged_models(
    connection: Connection, search: ModelSearch, limit: int, offset: int
) -> list[LoggedModel]:
    """Return a page of the matching models, in three round trips.

    Raises BadQuery for a limit or offset out of range.
    """
    statement = page_of_models(search, limit, offset)
    ids = [row["model_id"] for row in await connection.fetch(statement.text, *statement.values)]
    return await _these(connection, search.workspace, ids) if ids else []


async def _these(connection: Connection, workspace: str, model_ids: Sequence[str]) -> list[LoggedModel]:
    models = {row["model_id"]: LoggedModel(**dict(row)) for row in await connection.fetch(_HEADS, model_ids, workspace)}
    made: dict[str, list[tuple[str, str]]] = {}
    for row in await connection.fetch(_OWN, list(models), workspace) if models else ():
        if row["kind"] == "versions":
            made.setdefault(row["model_id"], []).append((row["key"], row["value"]))
        else:
            _add(models[row["model_id"]], row)
    for model_id, versions in made.items():
        tags = models[model_id].tags
        tags[VERSIONS_TAG] = with_versions(tags.get(VERSIONS_TAG), versions)
    return list(models.values())


def with_versions(tag: str | None, versions: Sequence[tuple[str, str]]) -> str:
    """Add (name, version) pairs to the tag, each once, with numbers as MLflow's server writes them.

    A tag that was set to another form is returned unchanged.
    """
    try:
        known = json.loads(tag) if tag else []
        held = {(str(one["name"]), str(one["version"])): one for one in known}
    except (ValueError, TypeError, KeyError, RecursionError):
        return tag or ""
    for name, version in versions:
        held[name, version] = held.get((name, version), {}) | {"name": name, "version": int(version)}
    return json.dumps(list(held.values()))


def _add(model: LoggedModel, row: Any) -> None:
    if row["kind"] == "metrics":
        model.metrics.append(
            MeasuredMetric(
                row["key"],
                row["number"],
                row["step"],
                row["time_ms"],
                row["model_id"],
                row["dataset_name"],
                row["dataset_digest"],
                row["run_id"],
            )
        )
    else:
        getattr(model, row["kind"])[row["key"]] = row["value"]
