"""Sends queued deliveries. Each webhook has a task of its own, so a slow or dead receiver delays no other."""

import asyncio
import time

import aiohttp
import structlog

from runfold_consumers.runtime.backoff import Backoff
from runfold_consumers.runtime.errors import SERVICE_ERRORS
from runfold_projections.postgres.connection import Pool, open_pool
from runfold_projections.webhooks import deliveries
from runfold_projections.webhooks.deliveries import Due

from .delivery_policy import DeliveryPolicy
from .metrics import WebhookMetrics
from .retries import pause_after
from .sender import AddressBlocked, Sender

CONCURRENT_WEBHOOKS = 64
"""Webhooks that one worker sends to at a time: each takes a connection and up to `policy.timeout` seconds."""
POLL_SECONDS = 0.25
"""Time between checks of an empty queue: the delay that receivers see, at the cost of an indexed query."""
CLAIM_MARGIN_SECONDS = 10.0
"""How much longer than two timeouts a claim lasts. A delivery whose claim ends while it is sent is sent twice."""
KEEP_DAYS = 30.0
"""How long delivered ones are listed; failed ones stay ten times as long, for redelivery."""
CLEANUP_SECONDS = 3_600.0
"""Time between two deletions of old deliveries."""
POOL_SIZE = 4
"""Connections for the queue. A statement takes a ms, so 64 webhooks share a few."""
STATEMENT_SECONDS = 30.0
_GONE = 410
NO_ANSWER = "no answer in HTTP from a receiver at a public address; the worker's log says why"
"""The error that API callers see for all such failures alike: telling them apart would reveal what listens in the
worker's network.
"""
_log = structlog.get_logger(__name__)


class Deliverer:
    """Runs until cancelled. Workers share the queue: a claimed delivery is out of the others' sight for a while."""

    def __init__(self, dsn: str, namespace: str, policy: DeliveryPolicy, metrics: WebhookMetrics) -> None:
        self._dsn, self._namespace, self._policy, self._metrics = dsn, namespace, policy, metrics
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._cleaned_up_at = time.monotonic()

    async def run(self) -> None:
        """Send until cancelled; wait while Postgres is down."""
        backoff = Backoff()
        async with (
            open_pool(
                self._dsn,
                self._namespace,
                application="runfold webhooks",
                min_size=0,
                max_size=POOL_SIZE,
                timeout=STATEMENT_SECONDS,
            ) as pool,
            Sender(self._policy) as sender,
        ):
            try:
                while True:
                    try:
                        if not await self._start_due(pool, sender):
                            await asyncio.sleep(POLL_SECONDS)
                        backoff.reset()
                    except SERVICE_ERRORS as error:
                        _log.debug("deliveries_not_claimed", error=str(error))
                        await backoff.pause()
            finally:
                for task in self._sending.values():
                    task.cancel()
                await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _start_due(self, pool: Pool, sender: Sender) -> bool:
        """Claim due deliveries and start to send them; return whether there were any."""
        self._sending = {webhook: task for webhook, task in self._sending.items() if not task.done()}
        free = CONCURRENT_WEBHOOKS - len(self._sending)
        if free <= 0:
            return False
        async with pool.acquire() as connection:
            claim_seconds = 2 * self._policy.timeout + CLAIM_MARGIN_SECONDS
            claimed = await deliveries.claim(connection, claim_seconds, free, list(self._sending))
            if time.monotonic() - self._cleaned_up_at > CLEANUP_SECONDS:
                self._cleaned_up_at = time.monotonic()
                await deliveries.delete_old(connection, KEEP_DAYS)
        for due in claimed:
            self._sending[due.webhook_id] = asyncio.create_task(self._deliver(pool, sender, due))
        return bool(claimed)

    async def _deliver(self, pool: Pool, sender: Sender, due: Due) -> None:
        """Make one attempt and save its result."""
        status: int | None = None
        answer: str | None = None
        retry_after = 0.0
        final = due.attempt >= due.most
        cause = ""
        try:
            response = await sender.send(due.url, due.delivery_id, due.body, due.secret)
            status, answer, retry_after = response.status, response.body, response.retry_after
            error = "" if 200 <= status < 300 else f"the receiver answered {status}"
            final = final or status == _GONE
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as reason:
            error, cause = NO_ANSWER, f"{type(reason).__name__}: {reason}"
            final = final or isinstance(reason, AddressBlocked) or isinstance(reason.__cause__, AddressBlocked)
        self._metrics.attempts.labels("delivered" if not error else "failed" if final else "retried").inc()
        try:
            async with pool.acquire() as connection:
                if not error:
                    await deliveries.mark_delivered(connection, due.delivery_id, status or 0, answer or "")
                    return
                retry_seconds = None if final else pause_after(due.attempt, retry_after)
                await deliveries.mark_failed(connection, due.delivery_id, status, answer, error, retry_seconds)
        except SERVICE_ERRORS as lost:
            # The claim ends by itself and the delivery is sent again: at least once.
            _log.warning("delivery_result_not_saved", delivery=due.delivery_id, error=str(lost))
            return
        _log.warning(
            "delivery_failed",
            webhook=due.webhook_id,
            delivery=due.delivery_id,
            error=cause or error,
            retry_seconds=retry_seconds,
        )
