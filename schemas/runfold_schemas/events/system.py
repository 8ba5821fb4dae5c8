"""Events about the log itself: each partition's genesis, the declared schemas, the feature level.

Field meanings are in the `.avsc` files.
"""

from typing import Annotated

from pydantic import Field

from runfold_schemas.positions.position import Partition

from .base import Count, Fact, Name, Text


class Genesis(Fact):
    subject = "runfold.log.Genesis"
    log_id: Name
    topic: Name
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    partition_count: Count

    def is_of(self, where: Partition, partitions: int) -> bool:
        """Whether it is the genesis of this partition of a topic with `partitions`; a broken log may hold another's."""
        return (self.topic, self.partition, self.partition_count) == (where.topic.value, where.partition, partitions)


class SchemaDeclared(Fact):
    subject = "runfold.system.SchemaDeclared"
    schema_id: Count
    declared_subject: Name = Field(alias="subject")
    version: Count
    level: Count
    definition: Text = Field(alias="schema")
    topics: list[Name]


class FeatureLevelRaised(Fact):
    subject = "runfold.system.FeatureLevelRaised"
    level: Count
    release: Name


EVENTS: tuple[type[Fact], ...] = (
    Genesis,
    SchemaDeclared,
    FeatureLevelRaised,
)
"""Event classes of this module."""
