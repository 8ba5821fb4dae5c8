"""What there is to do in a namespace: partitions of the generations and of the reactions."""

from collections.abc import Sequence

from runfold_consumers.runtime.reaction import Reaction, handler_name
from runfold_projections.control.leases import LIVE, REPLAY, Leasable
from runfold_projections.generations.generations import Generation, generations
from runfold_projections.generations.inventory import is_at_bound
from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import partition_count


class WorkList:
    """The unfinished work that workers share by leases."""

    def __init__(self, reactions: Sequence[Reaction]) -> None:
        self._reactions = reactions
        self._complete: set[str] = set()
        """Schemas of snapshots that are folded up to their vectors."""
        self.generations: dict[str, Generation] = {}
        """Unfinished generations by schema name, as of the last `load`."""

    @property
    def has_replay(self) -> bool:
        """Whether a generation beside the live ones is folded."""
        return any(generation.state != "live" for generation in self.generations.values())

    async def load(self, connection: Connection, partitions: int) -> list[Leasable]:
        """Read the generations and return all partitions to lease. `partitions`: count of `runs` and of `metrics`."""
        found = await generations(connection)
        self._complete &= {generation.schema_name for generation in found}
        for generation in found:
            if (
                generation.state == "past"
                and generation.schema_name not in self._complete
                and await is_at_bound(connection, generation)
            ):
                self._complete.add(generation.schema_name)
        self.generations = {g.schema_name: g for g in found if g.schema_name not in self._complete}
        work = [
            Leasable(
                generation.schema_name,
                Partition(generation.projection.topic, number),
                LIVE if generation.state == "live" else REPLAY,
            )
            for generation in self.generations.values()
            for number in range(partition_count(generation.projection.topic, partitions))
        ]
        work += [
            Leasable(handler_name(reaction), Partition(topic, number))
            for reaction in self._reactions
            for topic in reaction.topics
            for number in range(partition_count(topic, partitions))
        ]
        return work
