"""Is this run, or experiment, there and active? Asked before every write to it, answered without waiting for any fold
if possible.

Deleting and restoring are acknowledged when they are folded, so committed rows show every acknowledged one; only what
no row shows needs a strong read. A row is cached until a notice of a commit in its
partition, or of a switch to other tables.
"""

import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runfold_log.writer import LogWriter
from runfold_projections.experiments.queries import Experiment, get_experiment
from runfold_projections.postgres.connection import Connection
from runfold_projections.runs.queries import RunInfo, run_info
from runfold_schemas.bounded_cache import BoundedCache
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_of
from runfold_server.core.database import Database
from runfold_server.core.entity_errors import experiment_not_active, no_experiment, no_run, run_not_active
from runfold_server.core.errors import Unavailable
from runfold_server.freshness.fold_progress import FoldProgress
from runfold_server.reads.reader import Reader
from runfold_server.reads.scopes import of_run, of_topics

ACTIVE = "active"
TRUSTED = 5.0
"""Seconds that a row is trusted without a look: a connection that has silently died brings no notices."""
_REMEMBERED = 20_000
_EXPERIMENTS = Partition(Topic.EXPERIMENTS, 0)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Marks = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Known(Generic[V]):
    value: V
    marks: Marks | None
    folded: bool
    read_at: float


class _Remembered(Generic[K, V]):
    """Values with the notices that had come before they were read."""

    def __init__(self, progress: FoldProgress) -> None:
        self._progress = progress
        self._known: BoundedCache[K, _Known[V]] = BoundedCache(_REMEMBERED)

    def marks(self, partitions: Iterable[Partition]) -> Marks | None:
        """How far notices say these partitions are, and of which tables; None while nobody listens. Take them before
        the value is read.
        """
        progress = self._progress
        return (progress.switches, *[progress.known.get(p, 0) for p in partitions]) if progress.listening else None

    def current(self, key: K, marks: Marks | None) -> V | None:
        """The value, if it was read lately and nothing was committed in its partitions since."""
        known = self._known.get(key)
        if known is None or marks is None or known.marks != marks or time.monotonic() - known.read_at > TRUSTED:
            return None
        return known.value

    def any(self, key: K) -> _Known[V] | None:
        """Whatever is remembered, however old."""
        return self._known.get(key)

    def keep(self, key: K, value: V, marks: Marks | None, *, folded: bool = True) -> None:
        self._known.put(key, _Known(value, marks, folded, time.monotonic()), 1)


class RunCache:
    """Runs by their ids. One that this process created and no row shows yet is known to be active: had it been
    deleted, there would be a row. While Postgres is away, metric writes go on for runs that were seen before.
    """

    def __init__(self, database: Database, reader: Reader, progress: FoldProgress, log: LogWriter) -> None:
        self._database, self._reader, self._log = database, reader, log
        self._runs: _Remembered[str, RunInfo] = _Remembered(progress)

    def created(self, head: RunInfo) -> None:
        """A run whose creation was acknowledged, though not folded yet."""
        self._runs.keep(head.run_id, head, self._marks(head.run_id), folded=False)

    async def active(self, run_id: str, *, without_postgres: bool = False) -> RunInfo:
        """The run; NotFound or InvalidParameter, in MLflow's words, if it is not there or deleted.

        `without_postgres`: while Postgres is away, trust what was seen before.
        """
        try:
            head = await self._find(run_id)
        except Unavailable:
            known = self._runs.any(run_id)
            if known is None or not without_postgres:
                raise
            head = known.value
        if head is None:
            raise no_run(run_id)
        if head.lifecycle_stage != ACTIVE:
            raise run_not_active(run_id, head.lifecycle_stage)
        return head

    async def present(self, run_id: str) -> RunInfo:
        """The run, active or deleted; NotFound in MLflow's words if there is none."""
        head = await self._find(run_id)
        if head is None:
            raise no_run(run_id)
        return head

    def _marks(self, run_id: str) -> Marks | None:
        info = self._log.info
        if info is None:
            return None
        return self._runs.marks((Partition(Topic.RUNS, partition_of(run_id.encode(), info.partitions)), _EXPERIMENTS))

    async def _find(self, run_id: str) -> RunInfo | None:
        marks = self._marks(run_id)
        head = self._runs.current(run_id, marks)
        # The notice of a restore may come after the next request: only a row of now rejects a write.
        if head is not None and head.lifecycle_stage == ACTIVE:
            return head
        head = await _committed(self._database, lambda connection: run_info(connection, run_id))
        if head is None:
            known = self._runs.any(run_id)
            if known is not None and not known.folded:
                self._runs.keep(run_id, known.value, marks, folded=False)
                return known.value
            shown = await self._reader.read(
                of_run(run_id, Topic.RUNS, Topic.EXPERIMENTS), lambda connection: run_info(connection, run_id)
            )
            head = shown.value
        if head is not None:
            self._runs.keep(run_id, head, marks)
        return head


class ExperimentCache:
    """Experiments by their ids: their stage and artifact location are to be trusted, not their names and tags."""

    def __init__(self, database: Database, reader: Reader, progress: FoldProgress) -> None:
        self._database, self._reader = database, reader
        self._experiments: _Remembered[int, Experiment] = _Remembered(progress)

    async def active(self, experiment_id: int) -> Experiment:
        """The experiment; NotFound or InvalidParameter, in MLflow's words, if it is not there or deleted."""
        marks = self._experiments.marks((_EXPERIMENTS,))
        found = self._experiments.current(experiment_id, marks)
        if found is None or found.lifecycle_stage != ACTIVE:
            found = await self._read(experiment_id)
            if found is None:
                raise no_experiment(experiment_id)
            self._experiments.keep(experiment_id, found, marks)
        if found.lifecycle_stage != ACTIVE:
            raise experiment_not_active(experiment_id, found.lifecycle_stage)
        return found

    async def _read(self, experiment_id: int) -> Experiment | None:
        found = await _committed(self._database, lambda connection: get_experiment(connection, experiment_id))
        if found is None:
            shown = await self._reader.read(
                of_topics(Topic.EXPERIMENTS), lambda connection: get_experiment(connection, experiment_id)
            )
            found = shown.value
        return found


async def _committed(database: Database, query: Callable[[Connection], Awaitable[V]]) -> V:
    async with database.connection() as connection:
        return await query(connection)
