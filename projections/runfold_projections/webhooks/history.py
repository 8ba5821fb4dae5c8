"""The history of a webhook."""

from typing import Any

from runfold_projections.core.entity import Histories, HistorySubject
from runfold_projections.core.entity_history import EntityHistory, Step, without_nulls
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.history.timeline import known_histories
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from . import fold
from .projector import webhook_entity
from .state import decode_webhook


class WebhookHistory(EntityHistory[fold.Webhook | None]):
    """The history of one webhook. Its secret was never in the log."""

    projection = Projection.REGISTRY
    heads = ("name", "description", "url", "kinds", "active")

    def __init__(self, webhook_id: str) -> None:
        self.entity = webhook_entity(webhook_id)

    def start(self) -> fold.Webhook | None:
        return None

    def decode(self, data: bytes) -> fold.Webhook | None:
        return decode_webhook(data)

    def step(self, state: fold.Webhook | None, record: Record) -> Step[fold.Webhook | None]:
        answer = fold.fold(state, record)
        after = state if isinstance(answer, Rejection) else answer
        return {**self.fields(state), **self.fields(after)}, lambda: after

    def fields(self, state: fold.Webhook | None) -> dict[str, Any]:
        if state is None:
            return {}
        return without_nulls(
            {
                "name": state.name,
                "url": state.url,
                "kinds": list(state.kinds),
                "description": state.description,
                "active": state.active,
                "lifecycle_stage": "deleted" if state.is_deleted else "active",
            }
        )


async def _find(connection: Connection, webhook_id: str, vector: Vector) -> Histories | None:
    return await known_histories(connection, (WebhookHistory(webhook_id),), vector)


SUBJECT = HistorySubject(
    collection="webhooks",
    parameter="webhook_id",
    about="Id of the webhook.",
    topics=(Topic.REGISTRY,),
    find=_find,
    missing="There is no webhook of id '{}'",
)
