"""Webhooks into their table."""

from collections.abc import Sequence

from runfold_projections.core.projector import MOST_CACHED, Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.webhooks import WebhookFact

from .fold import Webhook, fold
from .state import encode_webhook

_PREFIX = "webhook:"


def webhook_entity(webhook_id: str) -> str:
    """Return the name of a webhook in the journal."""
    return f"{_PREFIX}{webhook_id}"


class WebhooksProjector(Projector):
    """Projector of webhooks. One that was looked up and not found is remembered as absent."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._known: dict[str, Webhook | None] = {}
        self._changed: dict[str, Webhook] = {}

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        if len(self._known) > MOST_CACHED:
            self.forget()
        ids = {record.event.webhook_id for record in records if isinstance(record.event, WebhookFact)}
        missing = sorted(ids - self._known.keys())
        if not missing:
            return
        self._known.update(dict.fromkeys(missing))
        for row in await connection.fetch(_LOAD, missing):
            self._known[row["webhook_id"]] = Webhook(*row.values())

    def fold(self, record: Record) -> Rejection | None:
        assert isinstance(record.event, WebhookFact)
        answer = fold(self._known[record.event.webhook_id], record)
        if isinstance(answer, Rejection):
            return answer
        self._known[answer.webhook_id] = self._changed[answer.webhook_id] = answer
        return None

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        assert isinstance(record.event, WebhookFact)
        return (webhook_entity(record.event.webhook_id),)

    def state(self, entity: str) -> bytes | None:
        known = self._known.get(entity.removeprefix(_PREFIX)) if entity.startswith(_PREFIX) else None
        return None if known is None else encode_webhook(known)

    def changes(self) -> list[RowChange]:
        if not self._changed:
            return []
        rows = [
            (
                one.webhook_id,
                one.workspace,
                one.name,
                one.url,
                "\n".join(one.kinds),
                one.description,
                one.active,
                one.born,
                one.created_ms,
                one.updated_ms,
                one.is_deleted,
            )
            for one in self._changed.values()
        ]
        self._changed = {}
        return [RowChange(_SAVE, columns(rows))]


_LOAD = """
SELECT webhook_id, workspace, name, url, kinds, description, active, born, created_ms, updated_ms, is_deleted
FROM webhook WHERE webhook_id = ANY ($1::text[])
"""
_SAVE = """
INSERT INTO webhook (webhook_id, workspace, name, url, kinds, description, active, born, created_ms, updated_ms,
    is_deleted)
SELECT n.webhook_id, n.workspace, n.name, n.url, string_to_array(n.kinds, E'\\n'), n.description, n.active, n.born,
    n.created_ms,
       n.updated_ms, n.is_deleted
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::bigint[],
    $9::bigint[],
            $10::bigint[], $11::boolean[])
    AS n (webhook_id, workspace, name, url, kinds, description, active, born, created_ms, updated_ms, is_deleted)
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (webhook_id) DO UPDATE SET
    name = excluded.name, url = excluded.url, kinds = excluded.kinds, description = excluded.description,
    active = excluded.active, updated_ms = excluded.updated_ms, is_deleted = excluded.is_deleted
"""
