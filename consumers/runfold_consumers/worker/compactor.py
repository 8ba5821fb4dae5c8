"""Compacts the segments of all partitions that a worker holds, a few at a time, beside their folds."""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from runfold_consumers.runtime.errors import SERVICE_ERRORS
from runfold_consumers.runtime.handlers import CompactionWork
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_task import PartitionTask
from runfold_projections.control.leases import Leasable
from runfold_projections.core.errors import CompactionFailed, Fenced
from runfold_projections.segments.compaction import BuildSegments

CONCURRENT_STEPS = 2
"""While one step computes in the compaction process, another one's segments are fetched or written."""
IDLE_SECONDS = 0.25
"""Time between two rounds that found nothing to do. A source takes longer to fill up with new segments."""
RETRY_SECONDS = 5.0
"""Pause of a partition after a failed step: compaction is not urgent, and folding continues."""

_log = structlog.get_logger(__name__)


class Compactor:
    """Visits the partitions in turn until cancelled. A failed step is logged and retried; it never stops folding."""

    def __init__(
        self, build: BuildSegments, metrics: WorkerMetrics, tasks: Callable[[], Mapping[Leasable, PartitionTask]]
    ) -> None:
        self._build, self._metrics, self._tasks = build, metrics, tasks
        self._in_progress: set[Leasable] = set()
        self._not_before: dict[Leasable, float] = {}

    async def run(self) -> None:
        """Compact until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT_STEPS):
                group.create_task(self._visit_partitions())

    async def _visit_partitions(self) -> None:
        while True:
            compacted = 0
            for item, task in list(self._tasks().items()):
                work = task.compaction_work
                if work is None or item in self._in_progress or self._not_before.get(item, 0.0) > time.monotonic():
                    continue
                self._in_progress.add(item)
                try:
                    compacted += await self._step(item, work, busy=task.busy)
                finally:
                    self._in_progress.discard(item)
            await asyncio.sleep(0 if compacted else IDLE_SECONDS)

    async def _step(self, item: Leasable, work: CompactionWork, *, busy: bool) -> int:
        compaction = work.compaction
        try:
            compacted, waiting = await compaction.step(work.pool, busy=busy, build=self._build)
        except (Fenced, CompactionFailed, *SERVICE_ERRORS) as error:
            self._postpone(item, work, error)
            return 0
        except Exception as error:
            _log.exception(
                "unexpected_compaction_error", handler=item.handler, partition=str(item.where), error=repr(error)
            )
            self._postpone(item, work, error)
            return 0
        compaction.failed = False
        self._metrics.compaction_backlog.labels(item.handler, str(item.where)).set(waiting)
        return compacted

    def _postpone(self, item: Leasable, work: CompactionWork, error: Exception) -> None:
        work.compaction.forget()
        work.compaction.failed = True
        self._not_before[item] = time.monotonic() + RETRY_SECONDS
        self._metrics.failures.labels(f"{item.handler} compaction", type(error).__name__).inc()
        _log.warning("compaction_failed", handler=item.handler, partition=str(item.where), error=str(error))
