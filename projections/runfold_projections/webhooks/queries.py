"""Webhooks, and what payloads need of the models that events name."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from runfold_projections.postgres.connection import Connection

_COLUMNS = "webhook_id, workspace, name, url, kinds, description, active, born, created_ms, updated_ms"


class WebhookRow(NamedTuple):
    """A webhook that exists. `creation_offset` is in `registry`; times are ms since the epoch."""

    webhook_id: str
    workspace: str
    name: str
    url: str
    kinds: list[str]
    description: str | None
    active: bool
    creation_offset: int
    created_ms: int
    updated_ms: int


async def get_webhook(connection: Connection, workspace: str, webhook_id: str) -> WebhookRow | None:
    """Return the webhook of an id; None if there is none."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM webhook WHERE workspace = $1 AND webhook_id = $2 AND NOT is_deleted",  # noqa: S608
        workspace,
        webhook_id,
    )
    return None if row is None else WebhookRow(*row.values())


async def webhooks(connection: Connection, workspace: str | None, limit: int, after: str = "") -> list[WebhookRow]:
    """Return the webhooks of a workspace (None: of all), by id, those after `after`."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM webhook
        WHERE NOT is_deleted AND webhook_id > $2 AND ($1::text IS NULL OR workspace = $1) ORDER BY webhook_id LIMIT $3
        """,  # noqa: S608
        workspace,
        after,
        limit,
    )
    return [WebhookRow(*row.values()) for row in rows]


async def prompts_among(connection: Connection, workspace: str, names: Sequence[str]) -> frozenset[str]:
    """Return those of the names that are prompts."""
    rows = await connection.fetch(
        "SELECT name FROM registered_model WHERE workspace = $1 AND name = ANY ($2::text[]) AND is_prompt",
        workspace,
        list(names),
    )
    return frozenset(row["name"] for row in rows)


async def version_numbers(connection: Connection, offsets: Sequence[int]) -> dict[int, int]:
    """Return version numbers by the offsets of the events that created them, without versions deleted since."""
    rows: Any = await connection.fetch(
        "SELECT log_offset, version FROM model_version WHERE log_offset = ANY ($1::bigint[])", list(offsets)
    )
    return {row["log_offset"]: row["version"] for row in rows}
