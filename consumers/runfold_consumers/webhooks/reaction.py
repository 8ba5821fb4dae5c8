"""The webhook reaction: queues deliveries for accepted events of the registry, which background tasks send."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold_consumers.runtime.reaction import Reaction, ReactionServices
from runfold_projections.postgres.connection import Connection, Pool
from runfold_projections.postgres.fold_wait import wait_for_folds
from runfold_projections.postgres.read_transaction import checkpoints
from runfold_projections.webhooks.deliveries import delete_of, enqueue
from runfold_projections.webhooks.queries import webhooks
from runfold_schemas.codec.record import Record
from runfold_schemas.events.webhooks import WebhookDeleted
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .deliverer import Deliverer
from .delivery_policy import DeliveryPolicy
from .matching import MAX_WEBHOOKS, match_deliveries
from .metrics import WebhookMetrics
from .requested_redelivery import Redeliverer

FOLD_WAIT_SECONDS = 30.0
"""Longer than a worker's restart. After that the reaction fails and its session starts again."""
_FIRST_POLL_SECONDS, _MAX_POLL_SECONDS = 0.02, 0.5
"""The fold is usually a batch behind, some ms; a fold that is replaying takes long."""


@dataclass
class WebhookReaction(Reaction):
    """Follows the fold, since receivers hear of accepted events only."""

    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    name: str = "webhooks"
    topics: tuple[Topic, ...] = (Topic.REGISTRY,)

    async def react(self, pool: Pool, records: Sequence[Record]) -> None:
        """Queue the deliveries of these events. TimeoutError if the fold does not reach them in time.

        Delivery ids are made of webhook and event, so a repeated call queues nothing twice.
        """
        async with pool.acquire() as connection:
            await _wait_until_folded(connection, records[-1])
            deliveries = await match_deliveries(connection, records, self.policy.attempts)
            await enqueue(connection, deliveries)
            deleted = [record.event.webhook_id for record in records if isinstance(record.event, WebhookDeleted)]
            if deleted:
                existing = {hook.webhook_id for hook in await webhooks(connection, None, MAX_WEBHOOKS)}
                await delete_of(connection, [webhook_id for webhook_id in deleted if webhook_id not in existing])

    def background_tasks(self, services: ReactionServices) -> Sequence[Coroutine[Any, Any, None]]:
        """Return the tasks that send queued deliveries and requested redeliveries."""
        deliverer = Deliverer(services.dsn, services.namespace, self.policy, WebhookMetrics(services.registry))
        redeliverer = Redeliverer(
            services.kafka, services.dsn, services.namespace, services.catalog, self.policy.attempts
        )
        return [deliverer.run(), redeliverer.run()]


async def _wait_until_folded(connection: Connection, last: Record) -> None:
    async def read() -> tuple[Vector, bool]:
        positions = await checkpoints(connection)
        return positions, positions.get(last.position.where, 0) > last.position.offset

    async with asyncio.timeout(FOLD_WAIT_SECONDS):
        await wait_for_folds(read, pause=_FIRST_POLL_SECONDS, longest_pause=_MAX_POLL_SECONDS)
