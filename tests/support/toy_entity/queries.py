"""Toys as they are."""

from runfold_projections.postgres.connection import Connection

from .fold import Toy


async def get_toy(connection: Connection, toy_id: str) -> Toy | None:
    """Return the toy of an id; None if there is none."""
    row = await connection.fetchrow("SELECT toy_id, name, color, made_ms, is_broken FROM toy WHERE toy_id = $1", toy_id)
    return None if row is None else Toy(*row.values())
