"""Of a webhook."""

from typing import Any

from runfold_schemas.record import Record

from ...folds import webhooks
from ...folds.decision import Rejection
from ...generations import Projection
from ...projectors.webhooks import webhook_entity
from ...states import read_webhook
from .story import Step, Story, there


class WebhookStory(Story[webhooks.Webhook | None]):
    """The story of one webhook. Its secret was never in the log."""

    projection = Projection.REGISTRY

    def __init__(self, webhook_id: str) -> None:
        self.entity = webhook_entity(webhook_id)

    def start(self) -> webhooks.Webhook | None:
        return None

    def read(self, data: bytes) -> webhooks.Webhook | None:
        return read_webhook(data)

    def step(self, state: webhooks.Webhook | None, record: Record) -> Step[webhooks.Webhook | None]:
        answer = webhooks.fold(state, record)
        after = state if isinstance(answer, Rejection) else answer
        return {**self.fields(state), **self.fields(after)}, lambda: after

    def fields(self, state: webhooks.Webhook | None) -> dict[str, Any]:
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
