"""A moment of the log: up to where each partition counts."""

from collections.abc import Mapping

from .position import Partition, Position

Vector = Mapping[Partition, int]
"""Partition -> next offset: all records below it count. A partition that is not named counts not at all."""


def write_vector(vector: Vector) -> str:
    """The vector as text, `experiments:0:12,runs:3:18241`, in the order of topics and partitions."""
    return ",".join(f"{where}:{end}" for where, end in sorted(vector.items()))


def parse_vector(text: str) -> dict[Partition, int]:
    """Read what `write_vector` wrote; ValueError names the right form."""
    found: dict[Partition, int] = {}
    for part in text.split(","):
        try:
            position = Position.parse(part.strip())
        except ValueError as error:
            raise ValueError(f"position vector: {error}; several are joined by commas") from None
        if position.where in found:
            raise ValueError(f"position vector: {position.where} is named twice")
        found[position.where] = position.offset
    return found
