"""Ranges of received sequence numbers: what is inside is a duplicate, what is between is a hole."""

from bisect import bisect_right
from collections.abc import Iterable


class Ranges:
    """A set of whole numbers as sorted, disjoint, non-adjacent half-open ranges.

    Its size grows with the number of holes, never with the number of events.
    """

    __slots__ = ("bounds",)

    def __init__(self, bounds: Iterable[int] = ()) -> None:
        """`bounds` is start, stop, start, stop… in ascending order, as `bounds` of another instance gives it."""
        self.bounds: list[int] = list(bounds)

    def __contains__(self, number: int) -> bool:
        return bisect_right(self.bounds, number) % 2 == 1

    def add(self, number: int) -> bool:
        """Take a number in; False if it was there already."""
        bounds = self.bounds
        if bounds and number == bounds[-1]:
            bounds[-1] += 1
            return True
        at = bisect_right(bounds, number)
        if at % 2:
            return False
        joins_before = at > 0 and bounds[at - 1] == number
        joins_after = at < len(bounds) and bounds[at] == number + 1
        if joins_before and joins_after:
            del bounds[at - 1 : at + 1]
        elif joins_before:
            bounds[at - 1] += 1
        elif joins_after:
            bounds[at] -= 1
        else:
            bounds[at:at] = [number, number + 1]
        return True

    @property
    def holes(self) -> int:
        """How many numbers from 0 on are missing below the highest received."""
        if not self.bounds:
            return 0
        return self.bounds[0] + sum(b - a for a, b in zip(self.bounds[1:-1:2], self.bounds[2::2], strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self.bounds == other.bounds

    def __repr__(self) -> str:
        return f"Ranges({self.bounds})"
