"""Whole logged models, as stored, for exports and imports. Their metrics are points of runs, and left out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from runfold_projections.postgres.connection import Connection


@dataclass(slots=True)
class WholeModel:
    """A logged model.

    `experiment` is its experiment's name; times are ms since the epoch by the writers' clocks; `created_by` is the id
    of the event that made it.
    """

    model_id: str
    experiment: str
    name: str
    artifact_uri: str
    model_type: str | None
    source_run_id: str | None
    status: str
    lifecycle_stage: str
    created_ms: int
    updated_ms: int
    created_by: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


_CHOSEN = """
SELECT model_id FROM logged_model m JOIN experiment e USING (experiment_id)
WHERE m.workspace = $1 AND e.workspace = $1 AND (
    source_run_id = ANY ($2::text[]) OR experiment_id = ANY ($3::bigint[])
    OR model_id IN (
        SELECT model_id FROM run_output WHERE run_id = ANY ($2::text[])
        UNION ALL SELECT model_id FROM run_model WHERE run_id = ANY ($2::text[])
        UNION ALL SELECT model_id FROM model_value WHERE run_id = ANY ($2::text[])
        UNION ALL SELECT model_id FROM model_block WHERE run_id = ANY ($2::text[])
    ))
ORDER BY model_id
"""
_HEADS = """
SELECT m.model_id, e.name AS experiment, m.name, m.artifact_uri, m.model_type, m.source_run_id, m.status,
       m.lifecycle_stage, m.created_ms, m.updated_ms, m.created_by::text AS created_by
FROM logged_model m JOIN experiment e USING (experiment_id) WHERE m.model_id = ANY ($1::text[]) ORDER BY m.model_id
"""
_OWN = """
SELECT 'params' AS kind, model_id, key, value FROM logged_model_param WHERE model_id = ANY ($1::text[])
UNION ALL
SELECT 'tags', model_id, key, value FROM logged_model_tag WHERE model_id = ANY ($1::text[])
ORDER BY kind, model_id, key
"""


async def chosen_models(
    connection: Connection, workspace: str, run_ids: Sequence[str], experiments: Sequence[int]
) -> list[str]:
    """Return the ids, in order, of models that these runs made, used or measured, and of all in these experiments."""
    rows = await connection.fetch(_CHOSEN, workspace, list(run_ids), list(experiments))
    return [row["model_id"] for row in rows]


async def whole_models(connection: Connection, model_ids: Sequence[str]) -> list[WholeModel]:
    """Those of these models that are there, ordered by id. Must run in a snapshot: it takes two statements."""
    found = {row["model_id"]: WholeModel(**dict(row)) for row in await connection.fetch(_HEADS, list(model_ids))}
    for row in await connection.fetch(_OWN, list(found)) if found else ():
        getattr(found[row["model_id"]], row["kind"])[row["key"]] = row["value"]
    return list(found.values())
