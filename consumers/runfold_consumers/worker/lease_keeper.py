"""Keeps a worker's leases: shares the work with other workers, and starts and stops partitions accordingly."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog

from runfold_consumers.runtime.backoff import Backoff
from runfold_consumers.runtime.errors import SERVICE_ERRORS
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_projections.control import leases
from runfold_projections.control.migrations import check_migrated
from runfold_projections.core.errors import NotMigrated
from runfold_projections.postgres.connection import Connection, open_connection
from runfold_projections.postgres.notifications import listen_for_generations

from .config import WorkerConfig
from .generation_pools import GenerationPools
from .held_partitions import HeldPartitions
from .replay_processes import ReplayProcesses
from .service_health import ServiceHealth
from .work_list import WorkList

RENEW_SECONDS = 1.0
"""Leases expire after 10 s, so a worker may miss several renewals before another takes its partitions."""
HURRY_SECONDS, HURRIED_RENEW_SECONDS = 1.5, 0.1
"""After generations changed: how long, and how often, leases are renewed.

What another worker gives up is free only after its own renewal.
"""


class LeaseKeeper:
    """Renews leases until cancelled, and waits while Postgres is down."""

    def __init__(
        self,
        config: WorkerConfig,
        worker_id: str,
        held: HeldPartitions,
        pools: GenerationPools,
        replay: ReplayProcesses,
        metrics: WorkerMetrics,
        health: ServiceHealth,
    ) -> None:
        self._config, self._worker_id = config, worker_id
        self._held, self._pools, self._replay, self._metrics, self._health = held, pools, replay, metrics, health
        self._work_list = WorkList(config.reactions)
        self._changed = asyncio.Event()
        self._hurry_until = 0.0
        self._log: Any = structlog.get_logger().bind(worker=worker_id)

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Keep leases until cancelled.

        Tasks of partitions run in `group`; they are stopped and their leases released at the end.
        """
        backoff = Backoff()
        while True:
            try:
                async with self._session() as connection:
                    while True:
                        await self._renew(connection, group)
                        self._health.answered()
                        backoff.reset()
                        await self._pause()
            except (*SERVICE_ERRORS, NotMigrated) as error:
                text = f"{type(error).__name__}: {error}"
                if self._health.fail(text):
                    self._log.warning("leases_not_renewed", error=text)
                await backoff.pause()

    async def _pause(self) -> None:
        """Wait for the next renewal; a change of generations ends the wait."""
        hurried = time.monotonic() < self._hurry_until
        try:
            async with asyncio.timeout(HURRIED_RENEW_SECONDS if hurried else RENEW_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _on_generations_changed(self) -> None:
        self._hurry_until = time.monotonic() + HURRY_SECONDS
        self._changed.set()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        """Enter this worker in the control schema. On cancellation, stop its tasks and remove it."""
        config = self._config
        async with open_connection(
            config.dsn, config.namespace, application="runfold worker", durable=True
        ) as connection:
            await check_migrated(connection)
            await leases.register_worker(
                connection, self._worker_id, socket.gethostname(), os.getpid(), config.release, config.kinds
            )
            await listen_for_generations(connection, config.namespace, self._on_generations_changed)
            # The lost connection may mean that Postgres crashed, and a crash takes back commits that had not reached
            # its disk. A task whose partition gets no new records would never notice, so all tasks restart from the
            # checkpoints.
            await self._held.stop_all()
            try:
                yield connection
            except asyncio.CancelledError:
                await self._held.stop_all()
                await leases.remove_worker(connection, self._worker_id)
                raise

    async def _renew(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        held = self._held
        work = await self._work_list.load(connection, held.partitions)
        generations = self._work_list.generations
        self._replay.set_needed(self._work_list.has_replay)
        held.update_generations(generations)
        held.blocked = {item: error for item, error in held.blocked.items() if item in work}
        leased, surplus = await leases.renew_leases(connection, self._worker_id, work, held.blocked)
        if surplus:
            # The task ends before its lease does, so two workers never fold a partition for longer than a fence allows.
            await held.stop(surplus)
            await leases.release_leases(connection, self._worker_id, surplus)
        ended = held.ended()
        if ended:
            await held.stop(ended)
            await leases.release_leases(connection, self._worker_id, ended)
        wanted = leased - set(surplus) - set(ended)
        await held.stop([item for item in held.items if item not in wanted])
        for item in wanted - set(held.items):
            await held.start(item, generations, group)
        await held.unblock(generations)
        used = {item.handler for item in held.items} | {item.handler for item in held.blocked}
        await self._pools.close_unused(used | {self._config.namespace} | generations.keys())
        self._metrics.held.set(len(held.items))
        self._metrics.blocked.set(len(held.blocked))
