"""The partitions that a worker holds: a task for each, and those it can't continue."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

import structlog

from runfold_consumers.runtime.errors import Unreadable
from runfold_consumers.runtime.handlers import Handler, ProjectionHandler
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_status import PartitionStatus
from runfold_consumers.runtime.partition_task import PartitionTask
from runfold_consumers.runtime.reaction import ReactionHandler, handler_name
from runfold_consumers.runtime.read_hints import ReadHints
from runfold_consumers.runtime.schema_gate import SchemaGate
from runfold_projections.control.leases import Leasable
from runfold_projections.generations.generations import Generation
from runfold_schemas.positions.topics import partition_count

from .config import WorkerConfig
from .generation_pools import GenerationPools


class HeldPartitions:
    """Starts and stops the tasks of leased partitions. `on_stop` is called with each partition that is given up."""

    def __init__(
        self,
        config: WorkerConfig,
        pools: GenerationPools,
        metrics: WorkerMetrics,
        read_hints: ReadHints,
        on_stop: Callable[[Leasable], None],
    ) -> None:
        self._config, self._pools, self._metrics, self._read_hints = config, pools, metrics, read_hints
        self._on_stop = on_stop
        self._gate = SchemaGate(config.catalog, config.read_system)
        self._running: dict[Leasable, asyncio.Task[None]] = {}
        self._handlers: dict[Leasable, Handler] = {}
        self._log: Any = structlog.get_logger()
        self.partitions = config.partitions
        """The log's count of partitions for `runs` and for `metrics`."""
        self.tasks: dict[Leasable, PartitionTask] = {}
        self.blocked: dict[Leasable, Unreadable] = {}
        """Partitions whose next record needs a newer release. They keep neither task nor lease."""

    @property
    def items(self) -> Collection[Leasable]:
        """The partitions with a task."""
        return self._running.keys()

    @property
    def statuses(self) -> Mapping[Leasable, PartitionStatus]:
        """State and progress of each partition with a task."""
        return {item: task.status for item, task in self.tasks.items()}

    def ended(self) -> list[Leasable]:
        """Return partitions whose tasks ended without being stopped."""
        ended = [item for item, task in self._running.items() if task.done()]
        for item in ended:
            if item not in self.blocked:
                # A task handles every failure itself, so this is a bug. Log it before the task is restarted.
                self._log.error("partition_task_ended", handler=item.handler, partition=str(item.where))
        return ended

    def update_generations(self, generations: Mapping[str, Generation]) -> None:
        """Hand changed states and bounds to the handlers of these generations, by schema name."""
        for item, handler in self._handlers.items():
            if isinstance(handler, ProjectionHandler) and item.handler in generations:
                handler.update(generations[item.handler])

    async def start(self, item: Leasable, generations: Mapping[str, Generation], group: asyncio.TaskGroup) -> None:
        """Start the partition's task in `group`."""
        config = self._config
        handler = await self._handler(item, generations)
        partitions = partition_count(item.where.topic, self.partitions)
        task = PartitionTask(
            config.kafka, config.namespace, item, partitions, handler, self._gate, self._metrics, self._read_hints
        )
        self._handlers[item] = handler
        self.tasks[item] = task
        self._running[item] = group.create_task(self._run_until_blocked(item, task.run()))
        self._log.info("partition_started", handler=item.handler, partition=str(item.where))

    async def stop(self, items: Iterable[Leasable]) -> None:
        """Cancel the tasks of these partitions and wait for their end."""
        items = list(items)
        running = [self._running.pop(item) for item in items if item in self._running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for item in items:
            self.tasks.pop(item, None)
            self._handlers.pop(item, None)
            self._on_stop(item)

    async def stop_all(self) -> None:
        """Cancel all tasks and wait for their end."""
        await self.stop(list(self._running))

    async def unblock(self, generations: Mapping[str, Generation]) -> None:
        """Forget blocked partitions that a newer worker has folded past the unreadable record."""
        for item, error in list(self.blocked.items()):
            checkpoint = await (await self._handler(item, generations)).checkpoint()
            if checkpoint is not None and checkpoint.next_offset > error.position.offset:
                del self.blocked[item]
                self._log.info("partition_unblocked", handler=item.handler, partition=str(item.where))

    async def _run_until_blocked(self, item: Leasable, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Unreadable as error:
            self.blocked[item] = error
            self._log.error("partition_blocked", handler=item.handler, partition=str(item.where), error=str(error))

    async def _handler(self, item: Leasable, generations: Mapping[str, Generation]) -> Handler:
        config = self._config
        partitions = partition_count(item.where.topic, self.partitions)
        for reaction in config.reactions:
            if item.handler == handler_name(reaction):
                return ReactionHandler(await self._pools.get(config.namespace), reaction, item.where, partitions)
        pool = await self._pools.get(item.handler)
        return ProjectionHandler(pool, config.namespace, generations[item.handler], item.where, partitions)
