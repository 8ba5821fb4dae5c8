"""From accepted events of the registry to deliveries in the queue. The queue's ids are made of webhook and event: telling twice queues once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from runfold_projections.operations.outcomes import read_rejections
from runfold_projections.postgres.connection import Connection, Pool
from runfold_projections.postgres.fold_wait import wait_for_folds
from runfold_projections.postgres.read_transaction import checkpoints
from runfold_projections.webhooks.deliveries import Delivery, delete_of, delivery_id, enqueue
from runfold_projections.webhooks.payloads import (
    is_mlflows,
    matches_pattern,
    mlflow_body,
    models_named,
    native_body,
    payloads_of,
)
from runfold_projections.webhooks.queries import WebhookRow, prompts_among, version_numbers, webhooks
from runfold_schemas.codec.record import Record
from runfold_schemas.events.registered_models import ModelVersionCreated
from runfold_schemas.events.system import Genesis
from runfold_schemas.events.webhooks import WebhookDeleted
from runfold_schemas.positions.vector import Vector

MOST_HOOKS = 10_000
FOLD_WAIT = 30.0
"""Seconds to wait for the fold before the reaction is begun anew."""
_POLL = (0.02, 0.5)


@dataclass
class WebhookReaction:
    """Reads the log behind the fold, since only accepted events are told. `attempts`: how often a delivery is tried."""

    attempts: int
    name: str = "webhooks"

    async def react(self, pool: Pool, records: Sequence[Record]) -> None:
        """Queue what these events are to tell. TimeoutError while the fold is behind them."""
        async with pool.acquire() as connection:
            await _wait_until_folded(connection, records[-1])
            found = await deliveries(connection, records, self.attempts)
            await enqueue(connection, found)
            gone = [record.event.webhook_id for record in records if isinstance(record.event, WebhookDeleted)]
            if gone:
                there = {hook.webhook_id for hook in await webhooks(connection, None, MOST_HOOKS)}
                await delete_of(connection, [webhook_id for webhook_id in gone if webhook_id not in there])


async def deliveries(
    connection: Connection, records: Sequence[Record], attempts: int, only: str | None = None
) -> list[Delivery]:
    """What these events, which are folded, tell whom. A webhook is told of what came after it; with `only`, one is told of everything."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        hooks = await webhooks(connection, None, MOST_HOOKS)
        hooks = [h for h in hooks if (h.active if only is None else h.webhook_id == only)]
        if not hooks:
            return []
        refused = await read_rejections(connection, [(r.position, r.envelope.event_id) for r in records])
        accepted = [
            record
            for record, refusal in zip(records, refused, strict=True)
            if refusal is None and not isinstance(record.event, Genesis)
        ]
        prompts = {
            workspace: await prompts_among(
                connection,
                workspace,
                [name for one in accepted if one.envelope.workspace == workspace for name in models_named(one)],
            )
            for workspace in {record.envelope.workspace for record in accepted}
        }
        new = [record.position.offset for record in accepted if isinstance(record.event, ModelVersionCreated)]
        numbers = await version_numbers(connection, new)
    return [
        delivery
        for record in accepted
        for hook in hooks
        if hook.workspace == record.envelope.workspace
        and (only is not None or hook.creation_offset < record.position.offset)
        for delivery in _of(hook, record, prompts[record.envelope.workspace], numbers, attempts)
    ]


def _of(
    hook: WebhookRow, record: Record, prompts: frozenset[str], numbers: dict[int, int], attempts: int
) -> list[Delivery]:
    found = []
    for kind, data in payloads_of(record, prompts, numbers.get(record.position.offset)):
        if kind in hook.kinds:
            found.append((kind, mlflow_body(kind, data, record.timestamp_ms)))
    if any(not is_mlflows(kind) and matches_pattern(kind, record.envelope.type) for kind in hook.kinds):
        found.append((record.envelope.type, native_body(record)))
    event_id = record.envelope.event_id
    return [
        Delivery(
            delivery_id(hook.webhook_id, event_id, part),
            hook.webhook_id,
            event_id,
            str(record.position),
            record.position.offset,
            kind,
            text,
            attempts,
        )
        for part, (kind, text) in enumerate(found)
    ]


async def _wait_until_folded(connection: Connection, last: Record) -> None:
    async def look() -> tuple[Vector, bool]:
        have = await checkpoints(connection)
        return have, have.get(last.position.where, 0) > last.position.offset

    pause, longest = _POLL
    async with asyncio.timeout(FOLD_WAIT):
        await wait_for_folds(look, pause=pause, longest_pause=longest)
