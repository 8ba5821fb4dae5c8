"""The fold of metrics: how each event moves a run's branches, and on which branch its points are. Nothing is rejected.

The projector and the live streams both fold with it, so that a stream shows the points that the tables will show.
"""

from typing import NamedTuple

from runfold_schemas.codec.record import Record
from runfold_schemas.events.metrics import AttemptStarted, BranchFact, MetricsLogged, RunForked, RunRewound

from .branches import NO_RANK, Attempt, Cut, RunBranches


class Step(NamedTuple):
    """What an event does to its run."""

    rank: int
    """Rank of the writer; NO_RANK if it names none."""
    branch: int = 0
    """Branch of the event's points, if it has points."""
    appeared: Attempt | None = None
    """The attempt that appears with this event."""
    declared: bool = False
    """The attempt declares itself for the first time."""
    cut: Cut | None = None
    """A rewind, or a declared start that cuts off more than those before."""
    forked: bool = False
    """The run becomes a fork of another."""


def fold(run: RunBranches, record: Record) -> Step:
    """Fold an event into its run's branches, in place."""
    event, writer = record.event, record.envelope.writer
    rank = NO_RANK if writer.rank is None else writer.rank
    appeared = run.appear(writer.attempt)
    if isinstance(event, MetricsLogged):
        return Step(rank, run.branch(writer.attempt, rank, writer.id, record.envelope.sequence), appeared)
    assert isinstance(event, BranchFact), event
    match event:
        case AttemptStarted():
            declared = writer.attempt not in run.declared
            run.declared.add(writer.attempt)
            cut = None
            if event.start_step is not None:
                cut = run.start(writer.attempt, None if event.all_ranks else rank, event.start_step)
            return Step(rank, appeared=appeared, declared=declared, cut=cut)
        case RunRewound():
            scope = None if event.all_ranks else rank
            cut = run.rewind(writer.attempt, scope, event.step, writer.id, record.envelope.sequence)
            return Step(rank, appeared=appeared, cut=cut)
        case RunForked() if not run.is_fork and event.parent_run_id != event.run_id:
            run.is_fork = True
            return Step(rank, appeared=appeared, forked=True)
    return Step(rank, appeared=appeared)
