"""Why an event about a webhook is rejected."""

from runfold_projections.core.rejection import RejectionCode


class WebhookRejection(RejectionCode):
    EXISTS = "webhook_exists"
    NOT_FOUND = "webhook_not_found"


MEANINGS: dict[RejectionCode, str] = {
    WebhookRejection.EXISTS: "The id belongs to another webhook, perhaps a deleted one.",
    WebhookRejection.NOT_FOUND: "No webhook has this id.",
}
