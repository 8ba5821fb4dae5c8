"""The part of a projector that all projections share."""

from collections.abc import Sequence
from typing import Protocol

from runfold_projections.postgres.batch_statement import RowChange
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record

from .rejection import Rejection


class Projector(Protocol):
    """State of one partition of one projection, kept in memory between batches.

    Used by one task only, in the order load, fold…, settle, changes; `forget` after any failure, since memory may then be ahead of
    the tables. What is loaded is right if the batch's checkpoint is still in its place when the changes are written.
    """

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        """Bring the state that these records touch into memory."""

    def fold(self, record: Record) -> Rejection | None:
        """Fold one record; computes only."""

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        """Of the record that was folded last: the entities in whose journal it stands. Of a refused one also whom it collided with."""

    def state(self, entity: str) -> bytes | None:
        """The entity as it is after what was folded, as `states.py` writes it; None if it is not there, or has no such state."""

    async def settle(self, connection: Connection) -> None:
        """Read what only the folded batch tells that it needs. The tables are still as they were before it."""

    def changes(self) -> list[RowChange]:
        """What changed in the tables since the last call."""

    def forget(self) -> None:
        """Drop everything held in memory."""


MOST_CACHED = 5_000
"""Entities a projector keeps in memory between batches; beyond it, it starts with an empty cache."""
