"""Registered models: one by its name, or a page of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable

from .search_sql import page_of_models
from .search_vocabulary import REGISTERED_MODELS
from .version_queries import ModelVersion, latest_versions


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A registered model. Times are ms since the epoch by the writers' clocks.

    `creation_offset` is its identity, which renames keep. `latest` has the version of the largest number per stage.
    """

    creation_offset: int
    workspace: str
    name: str
    description: str | None
    created_ms: int
    updated_ms: int
    last_version: int
    is_prompt: bool
    tags: dict[str, str]
    aliases: dict[str, int]
    latest: list[ModelVersion]


COLUMNS = """
SELECT m.born, m.workspace, m.name, m.description, m.created_ms, m.updated_ms, m.last_version, m.is_prompt,
       tags.keys AS tag_keys, tags.values AS tag_values, standing.aliases, standing.versions
"""
JOINED = """
CROSS JOIN LATERAL (
    SELECT array_agg(t.key) AS keys, array_agg(t.value) AS values
    FROM (SELECT key, value FROM registered_model_tag WHERE born = m.born ORDER BY key) t
) tags
CROSS JOIN LATERAL (
    SELECT array_agg(a.alias) AS aliases, array_agg(a.version) AS versions
    FROM (SELECT alias, version FROM model_alias WHERE born = m.born ORDER BY alias) a
) standing
"""
_BY_NAME = COLUMNS + "FROM registered_model m" + JOINED + "WHERE m.workspace = $1 AND m.name = $2"
_BY_BORNS = (
    COLUMNS
    + "FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (born, place) JOIN registered_model m USING (born)"
    + JOINED
    + "ORDER BY wanted.place"
)


async def get_registered_model(connection: Connection, workspace: str, name: str) -> RegisteredModel | None:
    """Return the model that has this name; None if none has it."""
    if not storable(workspace) or not storable(name):
        return None
    return await _model(connection, await connection.fetchrow(_BY_NAME, workspace, name))


async def search_registered_models(
    connection: Connection, workspace: str, filter_string: str, order_by: Sequence[str], limit: int, offset: int
) -> list[RegisteredModel]:
    """Return a page of the matching models of a workspace, by default ordered by name.

    Finds prompts only if the filter asks for them. Raises BadFilter for an invalid expression, BadQuery for a limit or
    offset out of range.
    """
    clauses, orders = REGISTERED_MODELS.filter(filter_string), REGISTERED_MODELS.order(order_by)
    statement = page_of_models(workspace, clauses, orders, limit, offset)
    creation_offsets = [row["born"] for row in await connection.fetch(statement.text, *statement.values)]
    if not creation_offsets:
        return []
    latest = await latest_versions(connection, creation_offsets)
    return [made_model(row, latest[row["born"]]) for row in await connection.fetch(_BY_BORNS, creation_offsets)]


async def _model(connection: Connection, row: Any) -> RegisteredModel | None:
    if row is None:
        return None
    return made_model(row, (await latest_versions(connection, [row["born"]]))[row["born"]])


def made_model(row: Any, latest: list[ModelVersion]) -> RegisteredModel:
    """Make a model from a row of COLUMNS."""
    fields = dict(row)
    tags = dict(zip(fields.pop("tag_keys") or (), fields.pop("tag_values") or (), strict=True))
    aliases = dict(zip(fields.pop("aliases") or (), fields.pop("versions") or (), strict=True))
    return RegisteredModel(creation_offset=fields.pop("born"), **fields, tags=tags, aliases=aliases, latest=latest)
