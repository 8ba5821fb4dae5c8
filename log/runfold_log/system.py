"""The state of the `system` topic: the log's id, its feature level, the declared schemas."""

from runfold_schemas.codec.catalog import Catalog, released_catalog
from runfold_schemas.codec.system_state import SystemState
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

from .cluster import KafkaCluster
from .reader import LogReader

SYSTEM = Partition(Topic.SYSTEM, 0)
_FETCH_WAIT_SECONDS = 0.1


async def read_system(
    kafka: KafkaCluster, namespace: str, since: SystemState | None = None, catalog: Catalog | None = None
) -> SystemState:
    """Fold the `system` topic up to its current end, starting from `since`.

    `log_id` is empty while the log has no genesis. LogUnavailable if Kafka does not answer.
    """
    state = since or SystemState()
    async with LogReader(kafka, namespace, fetch_wait=_FETCH_WAIT_SECONDS) as reader:
        raws = [raw async for raw in reader.read_range(SYSTEM, state.next_offset)]
    return state.fold(raws, catalog or released_catalog())
