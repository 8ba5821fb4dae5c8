"""What webhooks bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection
from runfold_schemas.events.webhooks import WebhookCreated, WebhookFact

from .history import SUBJECT
from .projector import WebhooksProjector
from .rejections import MEANINGS

WEBHOOKS = Entity(
    package=__package__,
    projection=Projection.REGISTRY,
    layout=1,
    tables=(
        Table(
            "webhook",
            Listing(
                """
            SELECT webhook_id, workspace, name, url, kinds, description, active, born, created_ms,
            updated_ms, is_deleted
            FROM webhook ORDER BY webhook_id
            """
            ),
        ),
    ),
    projector=lambda _: WebhooksProjector(),
    facts=(WebhookFact,),
    creations=(WebhookCreated,),
    rejections=MEANINGS,
    subject=SUBJECT,
)
