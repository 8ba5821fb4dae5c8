"""Periodic work in the control schema that any worker may do: expired standbys, and the count of holes in sequences."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import structlog

from runfold_consumers.runtime.errors import SERVICE_ERRORS
from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.runtime.reaction import is_reaction
from runfold_projections.control.leases import LIVE, Leasable
from runfold_projections.generations.rebuild import drop_expired
from runfold_projections.operations.sequence_holes import hole_counts
from runfold_projections.postgres.connection import open_connection
from runfold_schemas.positions.topics import Topic

from .config import WorkerConfig

STANDBY_CHECK_SECONDS = 20.0
"""Standbys are kept for hours, so a little longer is of no consequence."""
_TIMEOUT_SECONDS = 60.0
"""Dropping a large schema, or scanning large tables, takes seconds."""


class Housekeeping:
    """Runs until cancelled. `held` returns the partitions that this worker holds."""

    def __init__(self, config: WorkerConfig, metrics: WorkerMetrics, held: Callable[[], Collection[Leasable]]) -> None:
        self._config, self._metrics, self._held = config, metrics, held
        self._log: Any = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Do all periodic work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._drop_standbys())
            group.create_task(self._count_holes())

    async def _drop_standbys(self) -> None:
        config = self._config
        while True:
            await asyncio.sleep(STANDBY_CHECK_SECONDS)
            try:
                async with open_connection(
                    config.dsn,
                    config.namespace,
                    application="runfold worker",
                    durable=True,
                    timeout=_TIMEOUT_SECONDS,
                ) as connection:
                    for name in await drop_expired(connection, config.standby_seconds):
                        self._log.info("standby_dropped", generation=name)
            except SERVICE_ERRORS as error:
                self._log.debug("standby_cleanup_failed", error=str(error))

    async def _count_holes(self) -> None:
        """Count the holes of topics whose first live partition this worker holds, so that one worker reports each
        topic.
        """
        config, gauge = self._config, self._metrics.sequence_holes
        counted: set[Topic] = set()
        while True:
            await asyncio.sleep(config.hole_check_seconds)
            topics = {
                item.where.topic
                for item in self._held()
                if item.kind == LIVE and item.where.partition == 0 and not is_reaction(item.handler)
            }
            for topic in counted - topics:
                gauge.remove(topic.value)
            counted &= topics
            try:
                async with open_connection(
                    config.dsn, config.namespace, application="runfold worker", timeout=_TIMEOUT_SECONDS
                ) as connection:
                    holes = await hole_counts(connection)
                for topic in topics & holes.keys():
                    gauge.labels(topic.value).set(holes[topic].missing)
                    counted.add(topic)
            except SERVICE_ERRORS as error:
                self._log.debug("holes_not_counted", error=str(error))
