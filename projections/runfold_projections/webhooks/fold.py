"""The fold of webhooks: their settings. Ids are never reused."""

from dataclasses import dataclass, replace

from runfold_projections.core.rejection import Rejection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.webhooks import WebhookCreated, WebhookDeleted, WebhookFact, WebhookUpdated

from .rejections import WebhookRejection


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as folded. `born` is the offset of its creation in `registry`.

    Unlike in the other folds, times are the broker's: ms since the epoch. Changing that would change stored rows.
    """

    webhook_id: str
    workspace: str
    name: str
    url: str
    kinds: tuple[str, ...]
    description: str | None
    active: bool
    born: int
    created_ms: int
    updated_ms: int
    is_deleted: bool = False


def fold(current: Webhook | None, record: Record) -> Webhook | Rejection:
    """Return the webhook after an event, or why it is rejected. `current` is None if there never was one of this id."""
    event = record.event
    assert isinstance(event, WebhookFact)
    if isinstance(event, WebhookCreated):
        if current is not None:
            return Rejection(WebhookRejection.EXISTS, f"webhook {event.webhook_id} exists", {"id": event.webhook_id})
        return Webhook(
            event.webhook_id,
            record.envelope.workspace,
            event.name,
            event.url,
            tuple(event.kinds),
            event.description or None,
            event.active,
            record.position.offset,
            record.timestamp_ms,
            record.timestamp_ms,
        )
    if current is None or current.is_deleted or current.workspace != record.envelope.workspace:
        return Rejection(
            WebhookRejection.NOT_FOUND, f"there is no webhook {event.webhook_id}", {"id": event.webhook_id}
        )
    if isinstance(event, WebhookDeleted):
        return replace(current, is_deleted=True, updated_ms=record.timestamp_ms)
    assert isinstance(event, WebhookUpdated)
    return replace(
        current,
        name=current.name if event.name is None else event.name,
        url=current.url if event.url is None else event.url,
        kinds=current.kinds if event.kinds is None else tuple(event.kinds),
        description=current.description if event.description is None else event.description or None,
        active=current.active if event.active is None else event.active,
        updated_ms=record.timestamp_ms,
    )
