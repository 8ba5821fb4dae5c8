"""The history of a run's branches: attempts, rewinds, forks. It has no fields."""

from typing import Any

from runfold_projections.core.entity_history import EntityHistory, Step
from runfold_projections.core.projection import Projection
from runfold_projections.history.cutoff import partition_of_run
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector


class BranchHistory(EntityHistory[None]):
    """The history of one run's branches."""

    projection = Projection.METRICS

    def __init__(self, run_id: str) -> None:
        self.entity = run_id

    def partition(self, vector: Vector) -> Partition:
        return partition_of_run(vector, Topic.METRICS, self.entity)

    def start(self) -> None:
        return None

    def decode(self, data: bytes) -> None:
        return None

    def step(self, state: None, record: Record) -> Step[None]:
        return (), lambda: None

    def fields(self, state: None) -> dict[str, Any]:
        return {}
