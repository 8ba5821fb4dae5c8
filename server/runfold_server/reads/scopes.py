"""Scopes: which partitions a read depends on."""

from collections.abc import Callable, Iterable, Mapping

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import PARTITIONED, Topic, partition_of

PartitionOffsets = Mapping[Partition, int]
"""An offset per partition: end offsets, or checkpoints."""
Scope = Callable[[PartitionOffsets], PartitionOffsets]
"""Picks, from the end offsets of all partitions, those that a read depends on."""


def of_topics(*topics: Topic) -> Scope:
    """All partitions of these topics."""
    return lambda ends: {where: end for where, end in ends.items() if where.topic in topics}


def of_run(run_id: str, *topics: Topic) -> Scope:
    """The run's partition of these topics; of a topic with total order, its one partition."""

    def pick(ends: PartitionOffsets) -> PartitionOffsets:
        own = partition_of(run_id.encode(), sum(where.topic is Topic.RUNS for where in ends))
        return {
            where: end
            for where, end in ends.items()
            if where.topic in topics and where.partition == (own if where.topic in PARTITIONED else 0)
        }

    return pick


def of_runs(run_ids: Iterable[str], *topics: Topic) -> Scope:
    """`of_run` for several."""
    scopes = [of_run(run_id, *topics) for run_id in run_ids]
    return lambda ends: {where: end for scope in scopes for where, end in scope(ends).items()}
