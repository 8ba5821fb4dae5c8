"""Matches events of the registry with the webhooks that subscribe to them."""

from collections.abc import Sequence

from runfold_projections.operations.outcomes import read_rejections
from runfold_projections.postgres.connection import Connection
from runfold_projections.webhooks.deliveries import Delivery, delivery_id
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

MAX_WEBHOOKS = 10_000
"""Webhooks that are read for a batch: far more than an installation has, and a bound for the worker's memory."""


async def match_deliveries(
    connection: Connection, records: Sequence[Record], attempts: int, only: str | None = None
) -> list[Delivery]:
    """Return the deliveries of these events, all of which must be folded.

    A webhook gets events after its creation. With `only`, this webhook alone gets all of them, also earlier ones and
    while it is disabled.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        hooks = await webhooks(connection, None, MAX_WEBHOOKS)
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
        for delivery in _deliveries(hook, record, prompts[record.envelope.workspace], numbers, attempts)
    ]


def _deliveries(
    hook: WebhookRow, record: Record, prompts: frozenset[str], numbers: dict[int, int], attempts: int
) -> list[Delivery]:
    """Return what one webhook gets of one accepted event: MLflow's payloads, and ours if it subscribes to the event's
    type.
    """
    payloads = [
        (kind, mlflow_body(kind, data, record.timestamp_ms))
        for kind, data in payloads_of(record, prompts, numbers.get(record.position.offset))
        if kind in hook.kinds
    ]
    if any(not is_mlflows(kind) and matches_pattern(kind, record.envelope.type) for kind in hook.kinds):
        payloads.append((record.envelope.type, native_body(record)))
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
        for part, (kind, text) in enumerate(payloads)
    ]
