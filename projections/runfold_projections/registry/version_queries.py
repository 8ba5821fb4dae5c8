"""Versions of registered models: by number, alias or creation, or a page of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable

from .search_sql import page_of_versions
from .search_vocabulary import MODEL_VERSIONS


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version. Times are ms since the epoch by the writers' clocks; `creation_offset` is its model's identity."""

    creation_offset: int
    name: str
    version: int
    source: str
    storage_location: str | None
    run_id: str | None
    run_link: str | None
    model_id: str | None
    description: str | None
    stage: str
    created_ms: int
    updated_ms: int
    tags: dict[str, str]
    aliases: list[str]


COLUMNS = """
SELECT m.name, v.born, v.version, v.source, v.storage_location, v.run_id, v.run_link, v.model_id, v.description,
    v.stage, v.created_ms,
       greatest(v.updated_ms, m.renamed_ms) AS updated_ms, tags.keys AS tag_keys, tags.values AS tag_values,
           standing.aliases
"""
JOINED = """
JOIN registered_model m ON m.born = v.born
CROSS JOIN LATERAL (
    SELECT array_agg(t.key) AS keys, array_agg(t.value) AS values
    FROM (SELECT key, value FROM model_version_tag WHERE born = v.born AND version = v.version ORDER BY key) t
) tags
CROSS JOIN LATERAL (
    SELECT array_agg(a.alias ORDER BY a.alias) AS aliases FROM model_alias a WHERE a.born = v.born
        AND a.version = v.version
) standing
"""
_BY_NUMBER = COLUMNS + "FROM model_version v" + JOINED + "WHERE m.workspace = $1 AND m.name = $2 AND v.version = $3"
_BY_ALIAS = (
    COLUMNS
    + "FROM model_alias s JOIN model_version v USING (born, version)"
    + JOINED
    + "WHERE m.workspace = $1 AND m.name = $2 AND s.alias = $3"
)
_BY_KEYS = (
    COLUMNS
    + "FROM unnest($1::bigint[], $2::integer[]) WITH ORDINALITY AS wanted (born, version, place) "
    + "JOIN model_version v USING (born, version)"
    + JOINED
    + "ORDER BY wanted.place"
)
_OF_MODEL = COLUMNS + "FROM model_version v" + JOINED + "WHERE v.born = $1 ORDER BY v.version DESC LIMIT $2 OFFSET $3"
_CREATED_AT = COLUMNS + "FROM model_version v" + JOINED + "WHERE v.log_offset = $1"
_NEWEST = """
FROM unnest($1::bigint[]) AS wanted (born) CROSS JOIN unnest($2::text[]) AS each (stage) CROSS JOIN LATERAL (
    SELECT * FROM model_version n WHERE n.born = wanted.born AND n.stage = each.stage ORDER BY n.version DESC LIMIT 1
) v
"""
_LATEST = COLUMNS + _NEWEST + JOINED + "ORDER BY v.born, v.version"
STAGES = ("None", "Staging", "Production", "Archived")


async def get_model_version(connection: Connection, workspace: str, name: str, version: int) -> ModelVersion | None:
    """Return the version of this number of the model that has this name; None if there is none."""
    if not storable(workspace) or not storable(name) or not 0 < version < 2**31:
        return None
    return _version(await connection.fetchrow(_BY_NUMBER, workspace, name, version))


async def model_version_by_alias(connection: Connection, workspace: str, name: str, alias: str) -> ModelVersion | None:
    """Return the version that an alias points to; None if there is none."""
    if not storable(workspace) or not storable(name) or not storable(alias):
        return None
    return _version(await connection.fetchrow(_BY_ALIAS, workspace, name, alias))


async def model_version_created_at(connection: Connection, offset: int) -> ModelVersion | None:
    """Return the version that the event at this offset of `registry` created, if it still exists."""
    return _version(await connection.fetchrow(_CREATED_AT, offset))


async def versions_of(connection: Connection, creation_offset: int, limit: int, offset: int) -> list[ModelVersion]:
    """Return a page of a model's versions, the largest number first."""
    return [made_version(row) for row in await connection.fetch(_OF_MODEL, creation_offset, limit, offset)]


async def latest_versions(connection: Connection, creation_offsets: Sequence[int]) -> dict[int, list[ModelVersion]]:
    """Return, per model identity, the version of the largest number of each stage, by number."""
    found: dict[int, list[ModelVersion]] = {creation_offset: [] for creation_offset in creation_offsets}
    for row in await connection.fetch(_LATEST, list(creation_offsets), STAGES) if creation_offsets else ():
        found[row["born"]].append(made_version(row))
    return found


async def search_model_versions(
    connection: Connection, workspace: str, filter_string: str, order_by: Sequence[str], limit: int, offset: int
) -> list[ModelVersion]:
    """Return a page of the matching versions of a workspace, by default the last updated first.

    Finds those of prompts only if the filter asks for them. Raises BadFilter for an invalid expression, BadQuery for a
    limit or offset out of range.
    """
    clauses, orders = MODEL_VERSIONS.filter(filter_string), MODEL_VERSIONS.order(order_by)
    statement = page_of_versions(workspace, clauses, orders, limit, offset)
    keys = [(row["born"], row["version"]) for row in await connection.fetch(statement.text, *statement.values)]
    rows = (
        await connection.fetch(
            _BY_KEYS, [creation_offset for creation_offset, _ in keys], [version for _, version in keys]
        )
        if keys
        else ()
    )
    return [made_version(row) for row in rows]


def _version(row: Any) -> ModelVersion | None:
    return None if row is None else made_version(row)


def made_version(row: Any) -> ModelVersion:
    """Make a version from a row of COLUMNS."""
    fields = dict(row)
    tags = dict(zip(fields.pop("tag_keys") or (), fields.pop("tag_values") or (), strict=True))
    aliases = fields.pop("aliases") or []
    return ModelVersion(creation_offset=fields.pop("born"), **fields, tags=tags, aliases=aliases)
