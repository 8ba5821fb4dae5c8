"""State of the `system` topic: the log's id, the declared schemas, the feature level. A fold like any other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from runfold_schemas.errors import BadRecord, UndeclaredSchema
from runfold_schemas.events.system import FeatureLevelRaised, Genesis, SchemaDeclared

from .catalog import Catalog, Released
from .record import Raw, read_record

MOST_NOTED = 1000


@dataclass(frozen=True)
class SystemState:
    """What every reader and writer of the log has to know. `log_id` is empty before the first genesis.

    `definitions` has the first declaration of each id.
    """

    log_id: str = ""
    level: int = 0
    declared: frozenset[int] = frozenset()
    next_offset: int = 0
    set_aside: tuple[str, ...] = field(default=(), compare=False)
    definitions: Mapping[int, SchemaDeclared] = field(default_factory=dict, compare=False)

    def fold(self, raws: Iterable[Raw], catalog: Catalog) -> Self:
        """The state after more records.

        What can't be read is noted in `set_aside` (the last ones) and changes nothing.
        """
        log_id, level, definitions = self.log_id, self.level, dict(self.definitions)
        next_offset, aside = self.next_offset, list(self.set_aside)
        for raw in raws:
            next_offset = raw.position.offset + 1
            try:
                event = read_record(raw, catalog, partitions=1).event
            except (BadRecord, UndeclaredSchema) as error:
                aside.append(f"{raw.position}: {error}")
                continue
            if isinstance(event, Genesis):
                if event.is_of(raw.position.where, 1):
                    log_id = log_id or event.log_id
            elif not log_id:
                aside.append(f"{raw.position}: {event.subject} stands before the genesis")
            elif isinstance(event, SchemaDeclared):
                definitions.setdefault(event.schema_id, event)
            elif isinstance(event, FeatureLevelRaised):
                level = max(level, event.level)
        return type(self)(
            log_id, level, self.declared | definitions.keys(), next_offset, tuple(aside[-MOST_NOTED:]), definitions
        )

    def missing(self, released: Iterable[Released]) -> list[Released]:
        """Those of the given schemas that are not declared yet."""
        return [schema for schema in released if schema.schema_id not in self.declared]
