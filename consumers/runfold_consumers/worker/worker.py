"""A worker: holds leased partitions, runs a task for each, and gives them up in order."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from runfold_consumers.runtime.errors import Unreadable
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_status import PartitionState, PartitionStatus
from runfold_consumers.runtime.reaction import ReactionServices
from runfold_consumers.runtime.read_hints import ReadHints
from runfold_projections.control.leases import Leasable
from runfold_projections.segments.compaction_process import CompactionProcess
from runfold_schemas.ids import Ids

from .compactor import Compactor
from .config import WorkerConfig
from .generation_pools import GenerationPools
from .held_partitions import HeldPartitions
from .housekeeping import Housekeeping
from .lag import LagMonitor
from .lease_keeper import LeaseKeeper
from .replay_processes import ReplayProcesses
from .service_health import ServiceHealth


class Worker:
    """Runs until cancelled. Needs Postgres for leases and Kafka for records, and waits while either is down."""

    def __init__(self, config: WorkerConfig, ids: Ids | None = None) -> None:
        self._config = config
        self.worker_id = (ids or Ids()).event_id()
        self.metrics = WorkerMetrics()
        self._postgres = ServiceHealth("Postgres", "not connected yet: the log comes first")
        self._kafka = ServiceHealth("Kafka")
        self._read_hints = ReadHints()
        self._pools = GenerationPools(config.dsn, config.pool_size)
        self._lag = LagMonitor(config.kafka, config.namespace, self.metrics)
        self._held = HeldPartitions(config, self._pools, self.metrics, self._read_hints, self._lag.forget)
        self._replay = ReplayProcesses(config.replay_command, config.replay_environment, config.replay_processes)

    @property
    def statuses(self) -> Mapping[Leasable, PartitionStatus]:
        """State of every partition this worker holds."""
        return self._held.statuses

    @property
    def blocked(self) -> Mapping[Leasable, Unreadable]:
        """Partitions that need a newer release, with the record that does."""
        return self._held.blocked

    @property
    def problems(self) -> list[str]:
        """Why this worker is not ready; empty if it is."""
        found = [problem for service in (self._postgres, self._kafka) if (problem := service.problem)]
        found += [str(error) for error in self.blocked.values()]
        found += [
            f"{item.where}: {status.state.value}: {status.detail}"
            for item, status in self.statuses.items()
            if status.state in (PartitionState.WAITING, PartitionState.LOG_MISMATCH, PartitionState.FAILED)
        ]
        return found

    async def run(self) -> None:
        """Work until cancelled; then stop the tasks, release the leases and close everything."""
        config = self._config
        if config.wait_for_log is not None:
            self._held.partitions = await config.wait_for_log(self._kafka.fail)
            self._kafka.answered()
        services = ReactionServices(config.kafka, config.dsn, config.namespace, config.catalog, self.metrics.registry)
        keeper = LeaseKeeper(
            config, self.worker_id, self._held, self._pools, self._replay, self.metrics, self._postgres
        )
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            await stack.enter_async_context(self._pools)
            compaction = await stack.enter_async_context(CompactionProcess())
            group.create_task(self._lag.run(lambda: self.statuses, self._kafka))
            group.create_task(self._read_hints.receive(config.dsn, config.namespace))
            group.create_task(Housekeeping(config, self.metrics, lambda: self._held.items).run())
            group.create_task(self._replay.run())
            group.create_task(Compactor(compaction.build, self.metrics, lambda: self._held.tasks).run())
            for reaction in config.reactions:
                for work in reaction.background_tasks(services):
                    group.create_task(work)
            await keeper.run(group)
