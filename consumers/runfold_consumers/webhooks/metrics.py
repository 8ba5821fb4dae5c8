"""Prometheus metrics of webhooks."""

from prometheus_client import CollectorRegistry, Counter


class WebhookMetrics:
    """Metrics that the webhook reaction adds to its worker's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "runfold_webhook_attempts",
            "Attempts to deliver to a webhook, by result: delivered, retried or failed for good.",
            ("result",),
            registry=registry,
        )
