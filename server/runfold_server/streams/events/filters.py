"""Which events a stream is about."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from runfold_log.admin import LogInfo
from runfold_schemas.codec.record import Record
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.registered_models import ModelsPromoted
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import PARTITIONED, Topic, partition_of
from runfold_server.core.errors import InvalidParameter

from .event_json import Entry

MOST_PATTERNS, MOST_CHARS = 50, 200
_ABOUT = ("experiment_id", "run_id", "parent_run_id", "source_run_id", "model_id", "name", "new_name", "owner")
"""Fields of events by which they name what they are about; a promotion does by its moves."""


@dataclass(frozen=True, slots=True)
class Filter:
    """All conditions hold; one that is empty holds for everything. A record that can't be read passes where only
    topics are asked for.
    """

    topics: frozenset[Topic] = frozenset(Topic)
    types: tuple[re.Pattern[str], ...] = ()
    entities: frozenset[str] = frozenset()
    experiments: frozenset[int] = frozenset()
    actors: frozenset[str] = frozenset()
    workspaces: frozenset[str] = frozenset()
    _kinds: dict[str, bool] = field(default_factory=dict, compare=False)

    def partitions(self, info: LogInfo) -> list[Partition]:
        """The partitions that may hold such events."""
        found = [where for topic in Topic if topic in self.topics for where in info.all_partitions(topic)]
        if not self.entities:
            return found
        own = {partition_of(entity.encode(errors="replace"), info.partitions) for entity in self.entities}
        return [where for where in found if where.topic not in PARTITIONED or where.partition in own]

    def wants(self, entry: Entry) -> bool:
        """Whether an event is one of them. The headers decide first: what they rule out is not decoded."""
        if self.types and not self._is_kind(entry.type):
            return False
        if self.workspaces and entry.headers.get("ce_workspace", "") not in self.workspaces:
            return False
        if self.actors and entry.headers.get("ce_actor", "") not in self.actors:
            return False
        if not self.entities and not self.experiments:
            return True
        if entry.raw.position.topic in PARTITIONED and self.entities and not self.experiments:
            return entry.key in self.entities
        record = entry.record
        if not isinstance(record, Record):
            return False
        if self.experiments and getattr(record.event, "experiment_id", None) not in self.experiments:
            return False
        return not self.entities or self._is_about(entry, record)

    def _is_kind(self, kind: str) -> bool:
        known = self._kinds.get(kind)
        if known is None:
            short = kind.rpartition(".")[2]
            known = any(one.match(kind) or one.match(short) for one in self.types)
            if len(self._kinds) < 1000:
                self._kinds[kind] = known
        return known

    def _is_about(self, entry: Entry, record: Record) -> bool:
        if entry.key in self.entities:
            return True
        return any(named in self.entities for named in _named(record.event))


def _named(event: Event) -> Iterator[str]:
    yield from (str(value) for name in _ABOUT if (value := getattr(event, name, None)) is not None)
    if isinstance(event, ModelsPromoted):
        yield from (move.name for move in event.moves)


def patterns(texts: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    """Types as patterns with `*`, `?` and `[...]`.

    InvalidParameter if there are too many of them, or one is too long.
    """
    found: Sequence[str] = list(dict.fromkeys(texts))
    if len(found) > MOST_PATTERNS or any(len(text) > MOST_CHARS for text in found):
        raise InvalidParameter(
            f"Parameter 'type': at most {MOST_PATTERNS} patterns of at most {MOST_CHARS} characters."
        )
    return tuple(re.compile(fnmatch.translate(text)) for text in found)
