"""Merges the segments of all partitions that a worker holds, a few at a time, beside their folds."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from runfold_consumers.runtime.handlers import Tidy
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.partition_task import AWAY, PartitionTask
from runfold_projections.control.leases import Leasable
from runfold_projections.core.errors import CompactionFailed, Fenced
from runfold_projections.segments.compaction import BuildSegments

AT_ONCE = 2
"""Merges under way: while one computes, another one's segments are fetched or written."""
IDLE = 0.25
"""Seconds until the next look, where nothing was to be done."""
FAILED = 5.0

_log = structlog.get_logger(__name__)


class Tidier:
    """Goes round the partitions until cancelled. What fails is said, and tried again after a while: the folds go on."""

    def __init__(
        self, build: BuildSegments, metrics: WorkerMetrics, tasks: Callable[[], Mapping[Leasable, PartitionTask]]
    ) -> None:
        self._build, self._metrics, self._tasks = build, metrics, tasks
        self._under_way: set[Leasable] = set()
        self._not_before: dict[Leasable, float] = {}

    async def run(self) -> None:
        """Merge for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._round())

    async def _round(self) -> None:
        while True:
            merged = 0
            for item, task in list(self._tasks().items()):
                tidy = task.tidy
                if tidy is None or item in self._under_way or self._not_before.get(item, 0.0) > time.monotonic():
                    continue
                self._under_way.add(item)
                try:
                    merged += await self._step(item, tidy, busy=task.busy)
                finally:
                    self._under_way.discard(item)
            await asyncio.sleep(0 if merged else IDLE)

    async def _step(self, item: Leasable, tidy: Tidy, *, busy: bool) -> int:
        try:
            merged, left = await tidy.compaction.step(tidy.pool, busy=busy, build=self._build)
        except (Fenced, CompactionFailed, *AWAY) as error:
            self._failed(item, tidy, error)
            return 0
        except Exception as error:
            _log.exception("merging failed", handler=item.handler, partition=str(item.where), error=repr(error))
            self._failed(item, tidy, error)
            return 0
        tidy.compaction.failed = False
        self._metrics.merge_backlog.labels(item.handler, str(item.where)).set(left)
        return merged

    def _failed(self, item: Leasable, tidy: Tidy, error: Any) -> None:
        tidy.compaction.forget()
        tidy.compaction.failed = True
        self._not_before[item] = time.monotonic() + FAILED
        self._metrics.failures.labels(f"{item.handler} merge", type(error).__name__).inc()
        _log.warning("merging waits", handler=item.handler, partition=str(item.where), error=str(error))


__all__ = ["Tidier"]
