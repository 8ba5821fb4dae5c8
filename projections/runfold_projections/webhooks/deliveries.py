"""Deliveries of webhooks: waiting, delivered, failed.

They are in the control schema only; a replay touches none of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from runfold_projections.postgres.connection import Connection

_SPACE = UUID("5b0f1a0e-3c0c-4a53-9a8e-0c7a0d3f8b11")
TRIAL = "test"
"""Position of a delivery that no event caused."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One payload for one webhook. `place` is the position of its event."""

    delivery_id: str
    webhook_id: str
    event_id: str
    place: str
    log_offset: int
    kind: str
    body: str
    most: int


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is due: try number `attempt` of at most `most`."""

    delivery_id: str
    webhook_id: str
    url: str
    secret: str | None
    body: str
    attempt: int
    most: int


def delivery_id(webhook_id: str, event_id: str, part: int) -> str:
    """Return the id of a delivery: the same for an event and a webhook, however often it is queued.

    `part` numbers the payloads of one event.
    """
    return str(uuid5(_SPACE, f"{webhook_id}\n{event_id}\n{part}"))


async def put_secret(connection: Connection, webhook_id: str, secret: str | None) -> None:
    """Set a webhook's secret; None or empty deletes it."""
    async with connection.transaction():
        # No log can restore it.
        await connection.execute("SET LOCAL synchronous_commit = on")
        await connection.execute("DELETE FROM webhook_secret WHERE webhook_id = $1", webhook_id)
        if secret:
            await connection.execute(
                "INSERT INTO webhook_secret (webhook_id, secret) VALUES ($1, $2)", webhook_id, secret
            )


async def enqueue(connection: Connection, deliveries: Sequence[Delivery], *, again: bool = False) -> int:
    """Queue deliveries, and return how many were new.

    Those queued before are left alone, or with `again` delivered again.
    """
    if not deliveries:
        return 0
    columns = [
        (one.delivery_id, one.webhook_id, one.event_id, one.place, one.log_offset, one.kind, one.body, one.most)
        for one in deliveries
    ]
    status = await connection.execute(
        _AGAIN if again else _ENQUEUE, *(list(column) for column in zip(*columns, strict=True))
    )
    return int(status.rsplit(" ", 1)[-1])


_INSERT = """
INSERT INTO delivery AS d (delivery_id, webhook_id, event_id, place, log_offset, kind, body, most)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
    $8::integer[])
"""
_ENQUEUE = _INSERT + "ON CONFLICT (delivery_id) DO NOTHING"
_AGAIN = (
    _INSERT
    + """ON CONFLICT (delivery_id) DO UPDATE SET
    state = 'waiting', attempts = 0, most = excluded.most, due_at = now(), ended_at = NULL"""
)


async def claim(connection: Connection, seconds: float, limit: int, busy: Sequence[str]) -> list[Due]:
    """Claim, for some seconds, the oldest due delivery of each webhook that is not `busy`.

    If the claiming process dies, the delivery is due again afterwards: at least once.
    """
    rows: Any = await connection.fetch(
        """
        WITH first AS (
            SELECT DISTINCT ON (webhook_id) delivery_id FROM delivery
            WHERE state = 'waiting' AND due_at <= now() AND webhook_id <> ALL ($3::text[])
            ORDER BY webhook_id, due_at, log_offset
        ), mine AS (
            SELECT delivery_id FROM delivery JOIN first USING (delivery_id)
            WHERE state = 'waiting' AND due_at <= now() ORDER BY due_at LIMIT $2 FOR UPDATE OF delivery SKIP LOCKED
        )
        UPDATE delivery d SET due_at = now() + make_interval(secs => $1), attempts = attempts + 1
        FROM mine, webhook w
        WHERE d.delivery_id = mine.delivery_id AND w.webhook_id = d.webhook_id
        RETURNING d.delivery_id::text, d.webhook_id, w.url,
            (SELECT secret FROM webhook_secret s WHERE s.webhook_id = d.webhook_id) AS secret, d.body, d.attempts,
                d.most
        """,
        seconds,
        limit,
        list(busy),
    )
    return [Due(*row.values()) for row in rows]


async def mark_delivered(connection: Connection, delivery: str, status: int, answer: str) -> None:
    """Mark a delivery as accepted by the receiver."""
    await connection.execute(
        """
        UPDATE delivery SET state = 'delivered', status = $2, answer = $3, error = NULL, ended_at = now()
        WHERE delivery_id = $1::uuid
        """,
        delivery,
        status,
        answer,
    )


async def mark_failed(
    connection: Connection, delivery: str, status: int | None, answer: str | None, error: str, again_in: float | None
) -> None:
    """Mark a failed try: the delivery is due again in some seconds, or (None) given up."""
    await connection.execute(
        """
        UPDATE delivery SET status = $2, answer = $3, error = $4,
            state = CASE WHEN $5::double precision IS NULL THEN 'failed' ELSE 'waiting' END,
            due_at = now() + make_interval(secs => coalesce($5, 0)),
            ended_at = CASE WHEN $5::double precision IS NULL THEN now() END
        WHERE delivery_id = $1::uuid
        """,
        delivery,
        status,
        answer,
        error,
        again_in,
    )


async def delete_of(connection: Connection, webhook_ids: Sequence[str]) -> None:
    """Delete the secrets and waiting deliveries of deleted webhooks."""
    await connection.execute("DELETE FROM webhook_secret WHERE webhook_id = ANY ($1::text[])", list(webhook_ids))
    await connection.execute(
        "DELETE FROM delivery WHERE webhook_id = ANY ($1::text[]) AND state = 'waiting'", list(webhook_ids)
    )


async def delete_old(connection: Connection, days: float) -> None:
    """Delete deliveries this many days after they were delivered; failed ones after ten times as many."""
    await connection.execute(
        """
        DELETE FROM delivery
            WHERE ended_at < now() - make_interval(secs => $1 * CASE state WHEN 'failed' THEN 10 ELSE 1 END)
        """,
        days * 86_400,
    )


async def list_deliveries(
    connection: Connection, webhook_id: str | None, state: str | None, limit: int, offset: int
) -> list[dict[str, Any]]:
    """Return deliveries as JSON-ready rows, latest first. Times are ms since the epoch."""
    rows = await connection.fetch(
        """
        SELECT delivery_id::text AS delivery_id, webhook_id, event_id, place AS position, kind, state, attempts,
            status, answer, error,
            (extract(epoch FROM created_at) * 1000)::bigint AS created_ms, (extract(epoch
                FROM due_at) * 1000)::bigint AS due_ms,
            (extract(epoch FROM ended_at) * 1000)::bigint AS ended_ms
        FROM delivery WHERE ($1::text IS NULL OR webhook_id = $1) AND ($2::text IS NULL OR state = $2)
        ORDER BY created_at DESC, log_offset DESC, delivery_id LIMIT $3 OFFSET $4
        """,
        webhook_id,
        state,
        limit,
        offset,
    )
    return [dict(row) for row in rows]


async def find_delivery(connection: Connection, delivery: str) -> dict[str, Any] | None:
    """Return state, status, answer and error of one delivery."""
    row = await connection.fetchrow(
        "SELECT state, status, answer, error FROM delivery WHERE delivery_id = $1::uuid", delivery
    )
    return None if row is None else dict(row)


async def request_redelivery(connection: Connection, webhook_id: str, first: int, until: int) -> None:
    """Request redelivery to a webhook of the events of `registry` from `first` to before `until`."""
    await connection.execute(
        """
        INSERT INTO redelivery AS r (webhook_id, next_offset, until_offset) VALUES ($1, $2, $3)
        ON CONFLICT (webhook_id) DO UPDATE SET next_offset = least(r.next_offset, excluded.next_offset),
            until_offset = greatest(r.until_offset, excluded.until_offset)
        """,
        webhook_id,
        first,
        until,
    )


async def claim_redelivery(connection: Connection, seconds: float) -> tuple[str, int, int] | None:
    """Claim a requested redelivery for some seconds: webhook, first and end offset. None if nothing was requested."""
    row = await connection.fetchrow(
        """
        UPDATE redelivery SET due_at = now() + make_interval(secs => $1) WHERE webhook_id = (
            SELECT webhook_id FROM redelivery WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
        )
        RETURNING webhook_id, next_offset, until_offset
        """,
        seconds,
    )
    return None if row is None else (row["webhook_id"], row["next_offset"], row["until_offset"])


async def advance_redelivery(connection: Connection, webhook_id: str, before: int, after: int) -> None:
    """Record the progress of a redelivery; its row is deleted at the end. Later requests remain."""
    await connection.execute(
        "UPDATE redelivery SET next_offset = $3, due_at = now() WHERE webhook_id = $1 AND next_offset = $2",
        webhook_id,
        before,
        after,
    )
    await connection.execute("DELETE FROM redelivery WHERE webhook_id = $1 AND next_offset >= until_offset", webhook_id)
