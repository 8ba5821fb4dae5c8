"""The base of all projectors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from runfold_projections.postgres.batch_statement import RowChange
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record

from .rejection import Rejection

MOST_CACHED = 5_000
"""Entities that a projector keeps in memory between batches; beyond them it starts over with an empty cache."""

StateAt = Callable[[int], bytes | None]
"""Returns an entity's encoded state as of a next offset inside the folded batch; called with rising offsets only."""


class Projector(ABC):
    """State of one entity kind's part of one partition, kept in memory between batches.

    Used by one task only, in the order load, fold…, load_deferred, changes, and committed after the commit; `forget`
    after any failure, since memory may then be ahead of the tables. Loaded state is right if the batch's checkpoint is
    still in its place when the changes are written.
    """

    @abstractmethod
    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        """Bring the state that these records touch into memory."""

    @abstractmethod
    def fold(self, record: Record) -> Rejection | None:
        """Fold one record. Computes only: no I/O."""

    @abstractmethod
    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        """Return the entities whose journal gets the record that was folded last.

        For a rejected one they include the entities that it collided with.
        """

    @abstractmethod
    def state(self, entity: str) -> bytes | None:
        """Encode the entity's state after the folded records; None if it does not exist or has no encoded state."""

    async def load_deferred(self, connection: Connection) -> None:  # noqa: B027 - most projectors load all they need before
        """Read what only the folded batch shows to be needed. The tables still have the rows from before the batch."""

    @abstractmethod
    def changes(self) -> list[RowChange]:
        """Return the changes to the tables since the last call."""

    def repeated(self, offsets: Sequence[int]) -> list[RowChange]:
        """Return the changes for records of the batch that had been received before, and were not folded again."""
        return []

    def committed(self) -> None:  # noqa: B027 - most projectors have nothing to do
        """React to the commit of the batch."""

    @abstractmethod
    def forget(self) -> None:
        """Drop all state in memory."""


@runtime_checkable
class Rereading(Protocol):
    """A projector that holds only a part of some entities in memory."""

    async def reread(self, connection: Connection, entity: str) -> StateAt | None:
        """Read such an entity as it was before the batch and return its states within the batch; None for others."""
