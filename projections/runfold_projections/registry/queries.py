"""Registered models as they are."""

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
    """A registered model; times in ms since the epoch by the writers' clocks.

    `born` is its identity, which stays through renames. `latest` has the version of the largest number per stage.
    """

    born: int
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
    """The model that has this name now."""
    if not storable(workspace) or not storable(name):
        return None
    return await _model(connection, await connection.fetchrow(_BY_NAME, workspace, name))


async def search_registered_models(
    connection: Connection, workspace: str, filter_string: str, order_by: Sequence[str], limit: int, offset: int
) -> list[RegisteredModel]:
    """A page of a workspace's models that match, by name unless said otherwise. Prompts are found only if the filter asks for them.

    BadFilter for an expression that can't be read, BadQuery for a limit or offset out of range.
    """
    clauses, orders = REGISTERED_MODELS.filter(filter_string), REGISTERED_MODELS.order(order_by)
    statement = page_of_models(workspace, clauses, orders, limit, offset)
    borns = [row["born"] for row in await connection.fetch(statement.text, *statement.values)]
    if not borns:
        return []
    latest = await latest_versions(connection, borns)
    return [made_model(row, latest[row["born"]]) for row in await connection.fetch(_BY_BORNS, borns)]


async def _model(connection: Connection, row: Any) -> RegisteredModel | None:
    if row is None:
        return None
    return made_model(row, (await latest_versions(connection, [row["born"]]))[row["born"]])


def made_model(row: Any, latest: list[ModelVersion]) -> RegisteredModel:
    """A model from a row of COLUMNS."""
    fields = dict(row)
    tags = dict(zip(fields.pop("tag_keys") or (), fields.pop("tag_values") or (), strict=True))
    aliases = dict(zip(fields.pop("aliases") or (), fields.pop("versions") or (), strict=True))
    return RegisteredModel(**fields, tags=tags, aliases=aliases, latest=latest)
