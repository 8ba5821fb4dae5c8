"""Which points are effective, the slow way: every point is compared with every event that may have cut it off."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Said(NamedTuple):
    """An event of a writer: a `point`, a `start` or a `rewind`, or something `else`; at which step, and for which
    ranks.
    """

    kind: str
    attempt: str
    rank: int
    writer: str
    sequence: int
    step: int
    everyone: bool


@dataclass
class Model:
    """Points and cuts as they were told, each with its place in the log and the place of its attempt."""

    ordinals: dict[str, int] = field(default_factory=dict)
    points: list[tuple[Said, float, int]] = field(default_factory=list)
    cuts: list[tuple[Said, int, int]] = field(default_factory=list)

    def tell(self, place: int, said: Said) -> None:
        self.ordinals.setdefault(said.attempt, len(self.ordinals))
        named = [ordinal for name, ordinal in self.ordinals.items() if name]
        attempt = self.ordinals[said.attempt] if said.attempt else max(named, default=-1)
        if said.kind == "else":
            return
        if said.kind != "point":
            self.cuts.append((said, place, attempt))
            return
        own = [
            at
            for cut, at, of in self.cuts
            if cut.kind == "rewind" and of == attempt and (cut.everyone or cut.rank == said.rank)
            if cut.writer == said.writer and cut.sequence > said.sequence
        ]
        self.points.append((said, min(own, default=place + 1) - 0.5, attempt))

    def effective(self) -> list[bool]:
        return [not any(self.takes(cut, point) for cut in self.cuts) for point in self.points]

    @staticmethod
    def takes(cut: tuple[Said, int, int], point: tuple[Said, float, int]) -> bool:
        (said, place, attempt), (logged, at, of) = cut, point
        if logged.step <= said.step or not (said.everyone or said.rank == logged.rank):
            return False
        return attempt > of or (said.kind == "rewind" and attempt == of and place > at)
