"""Settings of a worker."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from runfold_consumers.runtime.reaction import Reaction
from runfold_consumers.runtime.schema_gate import ReadSystem
from runfold_log.cluster import KafkaCluster
from runfold_projections.control.leases import KINDS
from runfold_schemas.codec.catalog import Catalog, released_catalog


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs. `partitions` is the log's count for `runs` and for `metrics`."""

    kafka: KafkaCluster
    dsn: str
    namespace: str
    partitions: int
    release: str
    read_system: ReadSystem
    catalog: Catalog = field(default_factory=released_catalog)
    reactions: Sequence[Reaction] = ()
    pool_size: int = 4
    """Connections per generation: folds commit one after the other, while compaction and the next fold use others."""
    kinds: tuple[str, ...] = KINDS
    """What this worker folds: live generations, generations that are replayed beside them, or both."""
    replay_command: Sequence[str] = ()
    """Starts a worker of kind `replay` in a process that ends when its standard input does.

    Empty: no such processes.
    """
    replay_environment: Mapping[str, str] | None = None
    replay_processes: int = 1
    standby_seconds: float = 24 * 3600.0
    """How long a replaced generation is kept up to date."""
    hole_check_seconds: float = 60.0
    """Time between two counts of holes in sequences, each of which scans the `sequence` tables."""
    wait_for_log: Callable[[Callable[[str], object]], Awaitable[int]] | None = None
    """Awaited first, if given: the log may not be created yet, or Kafka be down.

    Reports what it waits for to its argument and returns the count of partitions.
    """
