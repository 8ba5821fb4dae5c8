"""A worker: leases partitions, runs a task for each, gives them up in order."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from runfold_consumers.runtime.errors import Unreadable
from runfold_consumers.runtime.handlers import Handler, ProjectionHandler, Reaction, ReactionHandler
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_task import AWAY, Backoff, PartitionTask, State, Status
from runfold_consumers.runtime.read_hints import Wanted
from runfold_consumers.runtime.schema_gate import Gate, ReadSystem
from runfold_consumers.webhooks.deliverer import Deliverer, Webhooks
from runfold_consumers.webhooks.redelivery import Again
from runfold_log.cluster import KafkaCluster
from runfold_log.errors import LogUnavailable
from runfold_projections.control import leases
from runfold_projections.control.leases import Leasable
from runfold_projections.control.migrations import check_migrated
from runfold_projections.core.errors import NotMigrated
from runfold_projections.generations.generations import Generation, generations
from runfold_projections.generations.inventory import is_at_bound
from runfold_projections.generations.rebuild import drop_expired
from runfold_projections.postgres.connection import open_connection, open_pool
from runfold_projections.postgres.notifications import listen_for_generations
from runfold_projections.segments.compaction_process import CompactionProcess
from runfold_schemas.codec.catalog import Catalog, released_catalog
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_count

from .compactor import Tidier
from .lag import EVERY as LAG_EVERY
from .lag import LagMonitor
from .replay_processes import Replayer

LEASE_EVERY = 1.0
HURRY_EVERY, HURRY_FOR = 0.1, 1.5
HOUSE_EVERY = 20.0
SILENCE = 6.0
"""Seconds without an answer after which Postgres or Kafka counts as away, although no call has failed: it may hang."""


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know. `partitions` is the log's count for runs and metrics.

    `wait_for_log`, if given, is awaited first, says what it waits for and answers that count: the log may not be born yet, or Kafka be away.
    """

    kafka: KafkaCluster
    dsn: str
    namespace: str
    partitions: int
    release: str
    read_system: ReadSystem
    catalog: Catalog = field(default_factory=released_catalog)
    reactions: Mapping[Topic, tuple[Reaction, ...]] = field(default_factory=dict)
    pool_size: int = 4
    kinds: tuple[str, ...] = leases.KINDS
    """What it folds: live generations, what is replayed beside them, or both."""
    replay_command: Sequence[str] = ()
    """Starts a worker of the kind `replay` as a process, which ends when its standard input does. Without it this worker is alone."""
    replay_environment: Mapping[str, str] | None = None
    replay_processes: int = 1
    standby_seconds: float = 24 * 3600.0
    """For how long a generation that was replaced is folded on."""
    wait_for_log: Callable[[Callable[[str], None]], Awaitable[int]] | None = None
    webhooks: Webhooks | None = None
    """How webhooks are told; None: not by this worker."""


class Worker:
    """Runs until cancelled. Needs Postgres for leases and Kafka for records; waits for either while it is away."""

    def __init__(self, config: WorkerConfig, ids: Ids | None = None) -> None:
        self._config = config
        self._partitions = config.partitions
        self._reactions = dict(config.reactions)
        if config.webhooks is not None:
            own = config.webhooks.reaction()
            self._reactions[Topic.REGISTRY] = (*self._reactions.get(Topic.REGISTRY, ()), own)
        self.worker_id = (ids or Ids()).event_id()
        self.metrics = WorkerMetrics()
        self.gate = Gate(config.catalog, config.read_system)
        self.blocked: dict[Leasable, Unreadable] = {}
        self._statuses: dict[Leasable, Status] = {}
        self._tasks: dict[Leasable, asyncio.Task[None]] = {}
        self._folding: dict[Leasable, PartitionTask] = {}
        self._wanted = Wanted()
        self._generations: dict[str, Generation] = {}
        self._whole: set[str] = set()
        """Pasts that are folded up to their vectors."""
        self._stir = asyncio.Event()
        self._hurry_until = 0.0
        self._replayer = Replayer(config.replay_command, config.replay_environment, config.replay_processes)
        self._handlers: dict[Leasable, Handler] = {}
        self._pools: dict[str, _Pool] = {}
        self._stack = AsyncExitStack()
        self._lag = LagMonitor(config.kafka, config.namespace, self.metrics)
        self._log: Any = structlog.get_logger().bind(worker=self.worker_id)
        self.postgres_error: str | None = "not connected yet; the log comes first"
        self.kafka_error: str | None = None
        self._postgres_answered = self._kafka_answered = time.monotonic()

    @property
    def statuses(self) -> Mapping[Leasable, Status]:
        """State of every partition this worker holds."""
        return self._statuses

    @property
    def problems(self) -> list[str]:
        """Why this worker is not ready; empty if it is."""
        postgres = self.postgres_error or _silence(self._postgres_answered)
        kafka = self.kafka_error or _silence(self._kafka_answered)
        found = [f"Postgres: {postgres}"] if postgres else []
        found += [f"Kafka: {kafka}"] if kafka else []
        found += [str(error) for error in self.blocked.values()]
        found += [
            f"{item.where}: {status.state.value}: {status.detail}"
            for item, status in self._statuses.items()
            if status.state in (State.WAITING, State.REFUSED, State.FAILED)
        ]
        return found

    async def run(self) -> None:
        """Work until cancelled; then stop the tasks, give the leases up and close."""
        if self._config.wait_for_log is not None:
            self._partitions = await self._config.wait_for_log(self._miss_log)
            self.kafka_error, self._kafka_answered = None, time.monotonic()
        async with self._stack, asyncio.TaskGroup() as group:
            merging = await self._stack.enter_async_context(CompactionProcess())
            group.create_task(self._watch_lag())
            group.create_task(self._hear_readers())
            group.create_task(self._keep_house())
            group.create_task(self._replayer.run())
            if (webhooks := self._config.webhooks) is not None:
                config = self._config
                group.create_task(Deliverer(config.dsn, config.namespace, webhooks).run())
                again = Again(config.kafka, config.dsn, config.namespace, config.catalog, webhooks.attempts)
                group.create_task(again.run())
            group.create_task(Tidier(merging.build, self.metrics, lambda: self._folding).run())
            await self._keep_leases(group)

    def _miss_log(self, why: str) -> None:
        self.kafka_error = why

    async def _keep_leases(self, group: asyncio.TaskGroup) -> None:
        backoff = Backoff()
        while True:
            try:
                async with self._session() as connection:
                    while True:
                        await self._renew(connection, group)
                        self.postgres_error, self._postgres_answered = None, time.monotonic()
                        backoff.reset()
                        await self._rest()
            except (*AWAY, NotMigrated) as error:
                text = f"{type(error).__name__}: {error}"
                if text != self.postgres_error:
                    self._log.warning("no leases: waiting for Postgres", error=text)
                self.postgres_error = text
                await backoff.pause()

    async def _rest(self) -> None:
        """Until the next look: at once when generations change, and then often, since what another worker gives up is free only then."""
        hurried = time.monotonic() < self._hurry_until
        try:
            async with asyncio.timeout(HURRY_EVERY if hurried else LEASE_EVERY):
                await self._stir.wait()
        except TimeoutError:
            pass
        self._stir.clear()

    def _changed(self) -> None:
        self._hurry_until = time.monotonic() + HURRY_FOR
        self._stir.set()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        config = self._config
        async with open_connection(
            config.dsn, config.namespace, application="runfold worker", durable=True
        ) as connection:
            await check_migrated(connection)
            await leases.register_worker(
                connection, self.worker_id, socket.gethostname(), os.getpid(), config.release, config.kinds
            )
            await listen_for_generations(connection, config.namespace, self._changed)
            # A crash of Postgres takes back commits that had not reached its disk. A task in whose partition nothing new
            # comes would never notice: all tasks begin again at the checkpoints that are there.
            await self._stop(list(self._tasks))
            try:
                yield connection
            except asyncio.CancelledError:
                await self._stop(list(self._tasks))
                await leases.remove_worker(connection, self.worker_id)
                raise

    async def _renew(self, connection: Any, group: asyncio.TaskGroup) -> None:
        work = await self._work(connection)
        self.blocked = {item: error for item, error in self.blocked.items() if item in work}
        held, give = await leases.renew_leases(connection, self.worker_id, work, self.blocked)
        if give:
            await self._stop(give)
            await leases.release_leases(connection, self.worker_id, give)
        ended = [item for item, task in self._tasks.items() if task.done()]
        for item in ended:
            if item not in self.blocked:
                # Nobody here cancelled it, and a task reports every failure of its own: say so rather than begin anew in silence.
                self._log.error("partition task ended by itself", handler=item.handler, partition=str(item.where))
        if ended:
            await self._stop(ended)
            await leases.release_leases(connection, self.worker_id, ended)
        wanted = held - set(give) - set(ended)
        await self._stop([item for item in self._tasks if item not in wanted])
        for item in wanted - self._tasks.keys():
            await self._start(item, group)
        await self._unblock()
        await self._close_unused()
        self.metrics.held.set(len(self._tasks))
        self.metrics.blocked.set(len(self.blocked))

    async def _work(self, connection: Any) -> list[Leasable]:
        found = await generations(connection)
        self._whole &= {generation.schema_name for generation in found}
        for generation in found:
            if (
                generation.state == "past"
                and generation.schema_name not in self._whole
                and await is_at_bound(connection, generation)
            ):
                self._whole.add(generation.schema_name)
        found = [generation for generation in found if generation.schema_name not in self._whole]
        self._generations = {generation.schema_name: generation for generation in found}
        self._replayer.want(any(generation.state != "live" for generation in found))
        for item, handler in self._handlers.items():
            if isinstance(handler, ProjectionHandler) and item.handler in self._generations:
                handler.told(self._generations[item.handler])
        work = [
            Leasable(
                generation.schema_name,
                Partition(generation.projection.topic, number),
                leases.LIVE if generation.state == "live" else leases.REPLAY,
            )
            for generation in found
            for number in range(partition_count(generation.projection.topic, self._partitions))
        ]
        for topic, reactions in self._reactions.items():
            work += [
                Leasable(f"reaction {reaction.name}", Partition(topic, number))
                for reaction in reactions
                for number in range(partition_count(topic, self._partitions))
            ]
        return work

    async def _start(self, item: Leasable, group: asyncio.TaskGroup) -> None:
        handler = await self._handler(item)
        partitions = partition_count(item.where.topic, self._partitions)
        task = PartitionTask(
            self._config.kafka, self._config.namespace, item, partitions, handler, self.gate, self.metrics, self._wanted
        )
        self._handlers[item] = handler
        self._statuses[item] = task.status
        self._folding[item] = task
        self._tasks[item] = group.create_task(self._guard(item, task.run))
        self._log.info("partition taken", handler=item.handler, partition=str(item.where))

    async def _guard(self, item: Leasable, run: Callable[[], Any]) -> None:
        try:
            await run()
        except Unreadable as error:
            self.blocked[item] = error
            self._log.error("partition paused", handler=item.handler, partition=str(item.where), error=str(error))

    async def _handler(self, item: Leasable) -> Handler:
        config = self._config
        partitions = partition_count(item.where.topic, self._partitions)
        for reaction in self._reactions.get(item.where.topic, ()):
            if item.handler == f"reaction {reaction.name}":
                return ReactionHandler(await self._pool(config.namespace), reaction, item.where, partitions)
        pool = await self._pool(item.handler)
        return ProjectionHandler(pool, config.namespace, self._generations[item.handler], item.where, partitions)

    async def _pool(self, schema_name: str) -> Any:
        if schema_name not in self._pools:
            stack = await self._stack.enter_async_context(AsyncExitStack())
            pool = await stack.enter_async_context(
                open_pool(
                    self._config.dsn,
                    schema_name,
                    application="runfold worker",
                    min_size=0,
                    max_size=self._config.pool_size,
                    timeout=30.0,
                )
            )
            self._pools[schema_name] = _Pool(pool, stack)
        return self._pools[schema_name].pool

    async def _close_unused(self) -> None:
        """Close what belongs to generations that are gone, or that are none of this worker's any more."""
        used = (
            {item.handler for item in self._tasks} | {item.handler for item in self.blocked} | {self._config.namespace}
        )
        for name in self._pools.keys() - used - self._generations.keys():
            await self._pools.pop(name).stack.aclose()

    async def _stop(self, items: list[Leasable]) -> None:
        tasks = [self._tasks.pop(item) for item in items if item in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for item in items:
            self._statuses.pop(item, None)
            self._folding.pop(item, None)
            self._handlers.pop(item, None)
            self._lag.forget(item)

    async def _unblock(self) -> None:
        """Forget what was unreadable once another worker has folded past it."""
        for item, error in list(self.blocked.items()):
            checkpoint = await (await self._handler(item)).checkpoint()
            if checkpoint is not None and checkpoint.next_offset > error.position.offset:
                del self.blocked[item]
                self._log.info("a newer worker went on", handler=item.handler, partition=str(item.where))

    async def _hear_readers(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._wanted.listen(self._config.dsn, self._config.namespace)
                backoff.reset()
            except AWAY as error:
                # The leases' connection tells of it; readers wait a rest longer until this one is back.
                self._log.debug("no notices of readers", error=str(error))
            await backoff.pause()

    async def _keep_house(self) -> None:
        """Drop standbys whose time is over, whichever worker comes first."""
        config = self._config
        while True:
            await asyncio.sleep(HOUSE_EVERY)
            try:
                async with open_connection(
                    config.dsn, config.namespace, application="runfold worker", durable=True, timeout=60.0
                ) as connection:
                    for name in await drop_expired(connection, config.standby_seconds):
                        self._log.info("standby dropped", generation=name)
            except AWAY as error:
                self._log.debug("standbys are not looked after", error=str(error))

    async def _watch_lag(self) -> None:
        try:
            while True:
                try:
                    await self._lag.observe(dict(self._statuses))
                    self.kafka_error, self._kafka_answered = None, time.monotonic()
                except (LogUnavailable, OSError, TimeoutError) as error:
                    self.kafka_error = f"{type(error).__name__}: {error}"
                    await self._lag.close()
                await asyncio.sleep(LAG_EVERY)
        finally:
            await self._lag.close()


@dataclass(frozen=True, slots=True)
class _Pool:
    pool: Any
    stack: AsyncExitStack


def _silence(answered: float) -> str | None:
    silent = time.monotonic() - answered
    return f"no answer for {silent:.0f} s" if silent > SILENCE else None
