"""The `registry` topic into its tables: each kind of thing in it has a part of its own, which sees only its own events."""

from collections.abc import Sequence

from runfold_projections.core.projector import Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.history.journal import StateAt
from runfold_projections.logged_models.projector import LoggedModelsProjector
from runfold_projections.postgres.batch_statement import RowChange
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.projector import RegisteredModelsProjector
from runfold_projections.webhooks.projector import WebhooksProjector
from runfold_schemas.codec.record import Record
from runfold_schemas.events.base import Fact
from runfold_schemas.events.logged_models import LoggedModelFact
from runfold_schemas.events.registered_models import RegisteredModelFact
from runfold_schemas.events.system import Genesis
from runfold_schemas.events.webhooks import WebhookFact


class RegistryProjector:
    """Projector of the `registry` topic. No part knows of another: what spans them is checked by APIs and joined by queries."""

    def __init__(self) -> None:
        self._models = RegisteredModelsProjector()
        self._parts: dict[type[Fact], Projector] = {
            RegisteredModelFact: self._models,
            LoggedModelFact: LoggedModelsProjector(),
            WebhookFact: WebhooksProjector(),
        }

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        for base, part in self._parts.items():
            own = [record for record in records if isinstance(record.event, base)]
            if own:
                await part.load(connection, own)

    def fold(self, record: Record) -> Rejection | None:
        if isinstance(record.event, Genesis):
            return None
        for base, part in self._parts.items():
            if isinstance(record.event, base):
                return part.fold(record)
        raise AssertionError(record.event)

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        for base, part in self._parts.items():
            if isinstance(record.event, base):
                return part.touched(record, rejection)
        return ()

    def state(self, entity: str) -> bytes | None:
        return next((state for part in self._parts.values() if (state := part.state(entity)) is not None), None)

    async def reread(self, connection: Connection, entity: str) -> StateAt | None:
        """Of a registered model, whose versions are not all in memory."""
        return await self._models.reread(connection, entity)

    async def settle(self, connection: Connection) -> None:
        for part in self._parts.values():
            await part.settle(connection)

    def changes(self) -> list[RowChange]:
        return [change for part in self._parts.values() for change in part.changes()]

    def forget(self) -> None:
        for part in self._parts.values():
            part.forget()
