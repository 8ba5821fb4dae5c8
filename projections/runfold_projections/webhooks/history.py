"""Of a webhook."""

from typing import Any

from runfold_projections.core.rejection import Rejection
from runfold_projections.generations.generations import Projection
from runfold_projections.history.entity_history import Step, Story, there
from runfold_projections.history.state_codec import read_webhook
from runfold_schemas.codec.record import Record

from . import fold
from .projector import webhook_entity


class WebhookStory(Story[fold.Webhook | None]):
    """The story of one webhook. Its secret was never in the log."""

    projection = Projection.REGISTRY

    def __init__(self, webhook_id: str) -> None:
        self.entity = webhook_entity(webhook_id)

    def start(self) -> fold.Webhook | None:
        return None

    def read(self, data: bytes) -> fold.Webhook | None:
        return read_webhook(data)

    def step(self, state: fold.Webhook | None, record: Record) -> Step[fold.Webhook | None]:
        answer = fold.fold(state, record)
        after = state if isinstance(answer, Rejection) else answer
        return {**self.fields(state), **self.fields(after)}, lambda: after

    def fields(self, state: fold.Webhook | None) -> dict[str, Any]:
        if state is None:
            return {}
        return there(
            {
                "name": state.name,
                "url": state.url,
                "kinds": list(state.kinds),
                "description": state.description,
                "active": state.active,
                "lifecycle_stage": "deleted" if state.is_deleted else "active",
            }
        )
