"""Where a record lies in the log."""

from typing import NamedTuple, Self

from .topics import Topic


class Partition(NamedTuple):
    """One ordered piece of the log."""

    topic: Topic
    partition: int

    def __str__(self) -> str:
        return f"{self.topic.value}:{self.partition}"


class Position(NamedTuple):
    """A record's place; written `runs:3:18240`."""

    topic: Topic
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic.value}:{self.partition}:{self.offset}"

    @property
    def where(self) -> Partition:
        return Partition(self.topic, self.partition)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `topic:partition:offset`; ValueError names the right form."""
        parts = text.split(":")
        if len(parts) != 3 or not all(p.isascii() and p.isdecimal() for p in parts[1:]):
            raise ValueError(f"position {text!r}: write topic:partition:offset, such as runs:3:18240")
        try:
            topic = Topic(parts[0])
        except ValueError:
            raise ValueError(f"position {text!r}: the topic is one of {', '.join(Topic)}") from None
        return cls(topic, int(parts[1]), int(parts[2]))
