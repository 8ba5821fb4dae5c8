"""Events of the `metrics` topic: points, and the branches that they belong to.

Field meanings are in the `.avsc` files.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from .base import Count, Fact, Long, RunId
from .frames import Frame
from .runs import RunFact


class BranchFact(RunFact):
    """Base of the events that begin branches of a run's points: attempts, rewinds, forks."""


class AttemptStarted(BranchFact):
    subject = "runfold.metrics.AttemptStarted"
    start_step: Long | None = None
    all_ranks: bool = True
    world_size: Count | None = None


class RunRewound(BranchFact):
    subject = "runfold.metrics.RunRewound"
    step: Long
    all_ranks: bool = False


class RunForked(BranchFact):
    subject = "runfold.metrics.RunForked"
    parent_run_id: RunId
    parent_branch: Annotated[int, Field(ge=0, lt=2**31)]
    step: Long


@dataclass(frozen=True, slots=True)
class MetricsLogged:
    """Metric points of one run. Not a pydantic model: it is the hot path, its codec checks the bounds."""

    subject: ClassVar[str] = "runfold.metrics.MetricsLogged"
    run_id: str
    frames: tuple[Frame, ...]

    @property
    def entity(self) -> str | None:
        return self.run_id

    @property
    def points(self) -> int:
        """Number of points in all frames."""
        return sum(len(frame.values) for frame in self.frames)


EVENTS: tuple[type[Fact], ...] = (
    AttemptStarted,
    RunRewound,
    RunForked,
)
"""Event classes of this module, without MetricsLogged, which is not a Fact."""
