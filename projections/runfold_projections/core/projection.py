"""The projections: read models that are folded, rebuilt and switched as one."""

from enum import StrEnum

from runfold_schemas.positions.topics import Topic


class Projection(StrEnum):
    """A group of tables folded from the topic of the same name."""

    EXPERIMENTS = "experiments"
    REGISTRY = "registry"
    RUNS = "runs"
    METRICS = "metrics"

    @property
    def topic(self) -> Topic:
        return Topic(self.value)
