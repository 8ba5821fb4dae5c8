"""Tells what waits in the queue: each webhook by itself, so that a slow or dead receiver holds up nobody else."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import structlog

from runfold_consumers.runtime.partition_task import AWAY, Backoff
from runfold_projections.postgres.connection import open_pool
from runfold_projections.webhooks import deliveries
from runfold_projections.webhooks.deliveries import Due

from .reaction import WebhookReaction
from .sender import Blocked, Manners, Sender

AT_ONCE = 64
"""Webhooks that one worker tells at the same time."""
POLL = 0.25
FIRST_PAUSE, MOST_PAUSE = 1.0, 3_600.0
KEEP_DAYS = 30.0
TIDY_EVERY = 3_600.0
_GONE = 410
NO_ANSWER = "no answer in HTTP from a receiver at a public address; the worker's log says why"
"""What callers are told of every such failure alike: which one it was would tell them what listens where in the worker's network."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Webhooks:
    """How a worker tells webhooks. A delivery is tried `attempts` times, with pauses that double from a second to an hour."""

    manners: Manners = field(default_factory=Manners)
    attempts: int = 12

    def reaction(self) -> WebhookReaction:
        """What queues for it."""
        return WebhookReaction(self.attempts)


def pause_after(attempt: int, asked: float = 0.0) -> float:
    """Seconds until the next try after the `attempt`-th: growing, with jitter, and no less than the receiver asked for, up to an hour."""
    grown = min(MOST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 20))
    return float(max(grown * random.uniform(0.5, 1.0), min(asked, MOST_PAUSE)))


class Deliverer:
    """Runs until cancelled. Several workers share the queue: each takes what nobody has."""

    def __init__(self, dsn: str, namespace: str, webhooks: Webhooks) -> None:
        self._dsn, self._namespace, self._webhooks = dsn, namespace, webhooks
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._tidied = time.monotonic()

    async def run(self) -> None:
        """Tell for ever; wait while Postgres is away."""
        backoff = Backoff()
        async with (
            open_pool(
                self._dsn, self._namespace, application="runfold webhooks", min_size=0, max_size=4, timeout=30.0
            ) as pool,
            Sender(self._webhooks.manners) as sender,
        ):
            try:
                while True:
                    try:
                        if not await self._round(pool, sender):
                            await asyncio.sleep(POLL)
                        backoff.reset()
                    except AWAY as error:
                        _log.debug("webhooks wait for Postgres", error=str(error))
                        await backoff.pause()
            finally:
                for task in self._telling.values():
                    task.cancel()
                await asyncio.gather(*self._telling.values(), return_exceptions=True)

    async def _round(self, pool: Any, sender: Sender) -> bool:
        """Take what is due; whether there was anything."""
        self._telling = {webhook: task for webhook, task in self._telling.items() if not task.done()}
        room = AT_ONCE - len(self._telling)
        if room <= 0:
            return False
        async with pool.acquire() as connection:
            # Twice the time of a try: what is taken by two is told twice.
            held = 2 * self._webhooks.manners.timeout + 10
            taken = await deliveries.claim(connection, held, room, list(self._telling))
            if time.monotonic() - self._tidied > TIDY_EVERY:
                self._tidied = time.monotonic()
                await deliveries.delete_old(connection, KEEP_DAYS)
        for due in taken:
            self._telling[due.webhook_id] = asyncio.create_task(self._tell(pool, sender, due))
        return bool(taken)

    async def _tell(self, pool: Any, sender: Sender, due: Due) -> None:
        status: int | None = None
        answer: str | None = None
        asked = 0.0
        final = due.attempt >= due.most
        why = ""
        try:
            sent = await sender.send(due.url, due.delivery_id, due.body, due.secret)
            status, answer, asked = sent.status, sent.answer, sent.retry_after
            error = "" if 200 <= status < 300 else f"the receiver answered {status}"
            final = final or status == _GONE
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as reason:
            error, why = NO_ANSWER, f"{type(reason).__name__}: {reason}"
            final = final or isinstance(reason, Blocked) or isinstance(reason.__cause__, Blocked)
        try:
            async with pool.acquire() as connection:
                if not error:
                    await deliveries.mark_delivered(connection, due.delivery_id, status or 0, answer or "")
                    return
                again = None if final else pause_after(due.attempt, asked)
                await deliveries.mark_failed(connection, due.delivery_id, status, answer, error, again)
        except AWAY as away:
            # It is due again by itself: at least once.
            _log.warning("a delivery's end is not noted", delivery=due.delivery_id, error=str(away))
            return
        _log.warning(
            "delivery failed", webhook=due.webhook_id, delivery=due.delivery_id, error=why or error, again_in=again
        )
