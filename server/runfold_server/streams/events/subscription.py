"""One stream of events: what it is about, and what it was not told yet."""

from collections.abc import Mapping, Sequence

from runfold_schemas.positions.position import Partition
from runfold_server.streams.send_queue import Pending

from .event_json import DUPLICATE, Entry
from .filters import Filter


class Following(Pending[Partition, Entry]):
    """Events from a place in the log on. Whoever reads the log calls `take`, the stream takes out."""

    def __init__(self, wanted: Filter, offsets: Mapping[Partition, int]) -> None:
        super().__init__(offsets)
        self.wanted = wanted

    def take(self, where: Partition, entries: Sequence[Entry], next_offset: int) -> None:
        """Take in records of a stretch that ends before `next_offset`; those from before its own place do nothing."""
        start = self.offsets.get(where)
        if start is None or not self.takes(where, next_offset):
            return
        for entry in entries:
            offset = entry.raw.position.offset
            if offset >= start and entry.outcome != DUPLICATE and self.wanted.wants(entry):
                self.put(where, offset + 1, entry, entry.nbytes)
        self.offsets[where] = next_offset
