"""The points that a run shows, computed the slow way: the model of what the tables answer."""

from __future__ import annotations

from collections.abc import Iterable

from runfold_projections.folding.decoding import decode_batch
from runfold_projections.metrics.branches import NO_RANK, EffectiveView, RunBranches
from runfold_projections.series.visible_points import BranchChoice
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw, Record
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunForked, RunRewound
from runfold_schemas.events.system import Genesis
from tests.support.histories.generator import RUNS

EXISTING = RUNS[:3]


Point = tuple[str, int, int, int, str]
"""Key, rank, step, time and value."""


class Told:
    """One run, as its events tell it: every point with its branch."""

    def __init__(self) -> None:
        self.lineage = RunBranches()
        self.points: list[tuple[int, Point]] = []
        self.fork: RunForked | None = None

    def tell(self, record: Record) -> None:
        writer, event = record.envelope.writer, record.event
        rank = NO_RANK if writer.rank is None else writer.rank
        self.lineage.appear(writer.attempt)
        if isinstance(event, RunRewound):
            scope = None if event.all_ranks else rank
            self.lineage.rewind(writer.attempt, scope, event.step, writer.id, record.envelope.sequence)
        elif isinstance(event, AttemptStarted) and event.start_step is not None:
            self.lineage.start(writer.attempt, None if event.all_ranks else rank, event.start_step)
        elif isinstance(event, RunForked) and event.parent_run_id != event.run_id:
            self.fork = self.fork or event
        elif isinstance(event, MetricsLogged):
            branch = self.lineage.branch(writer.attempt, rank, writer.id, record.envelope.sequence)
            for frame in event.frames:
                for at, value in enumerate(frame.values):
                    row, column = divmod(at, len(frame.keys))
                    point = (frame.keys[column], rank, frame.steps[row], frame.times[row], value.hex())
                    self.points.append((branch, point))


def shown(runs: dict[str, Told], run_id: str, branches: BranchChoice, heirs: tuple[str, ...] = ()) -> set[Point]:
    """The slow way: a run's own points, and its parent's shown points that neither the fork nor the run's cuts took."""
    told = runs.get(run_id)
    if told is None or run_id not in EXISTING or run_id in heirs:
        return set()
    lineage, as_of = told.lineage, branches if isinstance(branches, int) else None
    view = EffectiveView(lineage.attempts.values(), lineage.cuts, as_of)
    found = set()
    for branch, point in told.points:
        limit = view.limit(branch, point[1])
        if branches == "all" or (view.shows(branch) and (limit is None or point[2] <= limit)):
            found.add(point)
    if told.fork is not None:
        for point in shown(runs, told.fork.parent_run_id, told.fork.parent_branch, (*heirs, run_id)):
            limit = None if branches == "all" else view.inherited(point[1])
            if point[2] <= told.fork.step and (limit is None or point[2] <= limit):
                found.add(point)
    return found


def told_by(raws: Iterable[Raw]) -> dict[str, Told]:
    runs: dict[str, Told] = {}
    seen = set()
    for record in decode_batch(list(raws), released_catalog(), 1).records:
        identity = (record.entity, record.envelope.writer.id, record.envelope.sequence)
        if not isinstance(record.event, Genesis) and identity not in seen:
            seen.add(identity)
            runs.setdefault(record.entity, Told()).tell(record)
    return runs
