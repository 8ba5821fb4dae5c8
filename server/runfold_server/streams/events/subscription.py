"""One stream of events: what it is about, and what it has yet to send."""

from collections.abc import Mapping, Sequence

from runfold_schemas.positions.position import Partition
from runfold_server.streams.send_queue import SendQueue

from .event_json import DUPLICATE, Entry
from .filters import Filter


class EventSubscription(SendQueue[Entry, Entry]):
    """Events that pass a filter, from a position in the log on."""

    def __init__(self, filter: Filter, offsets: Mapping[Partition, int]) -> None:
        super().__init__(offsets)
        self.filter = filter

    def add(self, where: Partition, items: Sequence[Entry], next_offset: int) -> None:
        start = self.offsets.get(where)
        if start is None or not self.accepts(where, next_offset):
            return
        for entry in items:
            offset = entry.position.offset
            if offset >= start and entry.outcome != DUPLICATE and self.filter.wants(entry):
                self.put(where, offset + 1, entry, entry.nbytes)
        self.offsets[where] = next_offset
