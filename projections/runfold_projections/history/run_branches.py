"""Of what tells how a run's points hang together: attempts, rewinds, forks. They have fields of no entity."""

from typing import Any

from runfold_projections.generations.generations import Projection
from runfold_schemas.codec.record import Record
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .cutoff import partition_of_run
from .entity_history import Step, Story


class LineStory(Story[None]):
    """The story of one run's lines."""

    projection = Projection.METRICS

    def __init__(self, run_id: str) -> None:
        self.entity = run_id

    def where(self, vector: Vector) -> Partition:
        return partition_of_run(vector, Topic.METRICS, self.entity)

    def start(self) -> None:
        return None

    def read(self, data: bytes) -> None:
        return None

    def step(self, state: None, record: Record) -> Step[None]:
        return (), lambda: None

    def fields(self, state: None) -> dict[str, Any]:
        return {}
