"""Who writes, and how many events it wrote to each entity."""

from runfold_schemas.codec.envelope import Writer
from runfold_schemas.ids import Ids
from runfold_schemas.positions.topics import Topic

MOST_ENTITIES = 200_000
"""Beyond this many counters a sequencer becomes a new writer and forgets them: memory stays bounded."""


class Sequencer:
    """Hands out sequence numbers per (topic, entity), from 0, under one writer id.

    A number is never handed out twice under one id: a failed send burns its number.
    """

    def __init__(self, ids: Ids, *, node: str = "", rank: int | None = None, attempt: str = "") -> None:
        self._ids = ids
        self._node, self._rank, self._attempt = node, rank, attempt
        self.renew()

    def renew(self) -> None:
        """Become a new writer, whose numbers begin at 0 again."""
        self.writer = Writer(self._ids.event_id(), self._node, self._rank, self._attempt)
        self._next: dict[tuple[Topic, str], int] = {}

    def next_number(self, topic: Topic, entity: str) -> tuple[Writer, int]:
        """Return the writer and the next number for the entity."""
        if len(self._next) >= MOST_ENTITIES:
            self.renew()
        number = self._next.get((topic, entity), 0)
        self._next[topic, entity] = number + 1
        return self.writer, number
