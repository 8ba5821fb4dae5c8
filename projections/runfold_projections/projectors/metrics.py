"""Metric points into segments and summaries; attempts, rewinds and forks into the lineage that says which points are effective."""

from array import array
from collections import OrderedDict
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from runfold_schemas.events import AttemptStarted, Genesis, LineFact, MetricsLogged, RunForked, RunRewound
from runfold_schemas.frames import Frame
from runfold_schemas.position import Partition
from runfold_schemas.record import Record

from ..database import Connection
from ..folds import model_blocks
from ..folds.decision import Rejection
from ..folds.lineage import NO_RANK, Cut
from ..folds.metrics import RunMetrics, until
from ..folds.model_blocks import ModelBlocks
from ..folds.model_metrics import ModelMetrics
from ..folds.summaries import Layouts, Summaries
from ..fresh import merge_came, pack
from ..merging import Source
from ..rowchange import RowChange, columns
from .lineages import LineageRows, load_lineages
from .model_blocks import KnownBlocks
from .model_metrics import model_metric_changes
from .summaries import changed, load_summaries, sum_up_anew

MOST_BYTES = 96 * 1024 * 1024
"""Memory that the summaries of one partition's runs may take, about: two million of wide runs that log the same keys."""

_VECTOR_FROM = 100
"""Steps from which on NumPy finds their ends faster than Python does."""


class MetricsProjector:
    """Projector of one partition of the `metrics` topic.

    The frames of a batch are collected per source and folded merged, when its changes are asked for: array operations on
    few large frames instead of many small ones. Summaries are joins of what is effective after the whole batch, so that this changes
    no outcome.
    """

    def __init__(self, where: Partition) -> None:
        self._partition = where.partition
        self.forget()

    def forget(self) -> None:
        self._runs: OrderedDict[str, RunMetrics] = OrderedDict()
        """In the order of their last use."""
        self._layouts = Layouts()
        self._frames: dict[Source, tuple[int, int, list[tuple[Frame, int]]]] = {}
        self.fresh: list[Source] = []
        self._told = LineageRows()
        self._models = ModelMetrics()
        self._blocks, self._known = ModelBlocks(), KnownBlocks()
        self._cut: dict[str, int] = {}
        self._touched: dict[str, None] = {}

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        wanted = {r.event.run_id for r in records if isinstance(r.event, MetricsLogged | LineFact)}
        for run_id in wanted & self._runs.keys():
            self._runs.move_to_end(run_id)
        missing = sorted(wanted - self._runs.keys())
        if not missing:
            return
        self._make_room(wanted)
        found = {run_id: RunMetrics(summaries=Summaries(self._layouts)) for run_id in missing}
        await load_lineages(connection, found, missing)
        await load_summaries(connection, found, missing)
        self._runs.update(found)

    def _make_room(self, wanted: Collection[str]) -> None:
        size = sum(run.summaries.size for run in self._runs.values())
        for run_id in [run_id for run_id in self._runs if run_id not in wanted]:
            if size <= MOST_BYTES:
                return
            size -= self._runs.pop(run_id).summaries.size

    def fold(self, record: Record) -> Rejection | None:
        event = record.event
        if isinstance(event, Genesis):
            return None
        assert isinstance(event, MetricsLogged | LineFact), event
        run, writer = self._runs[event.run_id], record.envelope.writer
        rank = NO_RANK if writer.rank is None else writer.rank
        appeared = run.lineage.appear(writer.attempt)
        if appeared is not None:
            self._told.attempt(record, appeared)
        match event:
            case MetricsLogged():
                branch = run.lineage.branch(writer.attempt, rank, writer.id, record.envelope.sequence)
                self._collect(Source(event.run_id, writer.attempt, rank, branch), record.position.offset, event)
            case AttemptStarted():
                self._start(record, event, run, None if event.all_ranks else rank)
            case RunRewound():
                scope = None if event.all_ranks else rank
                cut = run.lineage.rewind(writer.attempt, scope, event.step, writer.id, record.envelope.sequence)
                self._take(record, event.run_id, cut)
            case RunForked() if not run.forked and event.parent_run_id != event.run_id:
                run.forked = True
                self._told.fork(record, event)
        return None

    def _collect(self, source: Source, offset: int, event: MetricsLogged) -> None:
        first, _, frames = self._frames.get(source) or (offset, offset, [])
        frames.extend((frame, offset) for frame in event.frames)
        self._frames[source] = (first, offset, frames)

    def _start(self, record: Record, event: AttemptStarted, run: RunMetrics, scope: int | None) -> None:
        attempt = record.envelope.writer.attempt
        if attempt not in run.declared:
            run.declared.add(attempt)
            self._told.start(record, event)
        if event.start_step is not None:
            cut = run.lineage.start(attempt, scope, event.start_step)
            if cut is not None:
                self._take(record, event.run_id, cut)

    def _take(self, record: Record, run_id: str, cut: Cut) -> None:
        self._told.cut(record, run_id, cut)
        self._cut[run_id] = min(cut.step, self._cut.get(run_id, cut.step))

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        """Metrics have no journal: they are the log's bulk, and their rows say when they came. What tells how they hang together has."""
        return (record.entity,) if isinstance(record.event, LineFact) else ()

    def state(self, entity: str) -> bytes | None:
        return None

    async def settle(self, connection: Connection) -> None:
        """Sum up anew what the batch's cuts may have taken from: keys that had effective points beyond them."""
        for run_id, step in self._cut.items():
            run = self._runs[run_id]
            keys = run.summaries.beyond(step)
            if keys:
                await sum_up_anew(connection, run_id, run, keys)
                self._touched[run_id] = None
        self._cut = {}

    def changes(self) -> list[RowChange]:
        segments = []
        for source, (first_offset, last_offset, parts) in self._frames.items():
            frames, came = merge_came(parts)
            if not frames:
                continue
            run_id, attempt, rank, branch = source
            run = self._runs[run_id]
            limit = run.lineage.view().limit(branch, rank) if run.lineage.cuts else None
            for frame in frames:
                run.summaries.add(until(frame, limit))
                measured = self._blocks if len(frame.keys) >= model_blocks.WIDE else self._models
                measured.add(run_id, frame)
            self._touched[run_id] = None
            points = sum(len(frame.values) for frame in frames)
            bounds = [_bounds(frame.keys) for frame in frames]
            steps = [step for frame in frames for step in _ends(frame.steps)]
            segments.append(
                (
                    run_id,
                    first_offset,
                    attempt,
                    rank,
                    branch,
                    min(first for first, _ in bounds),
                    max(last for _, last in bounds),
                    last_offset,
                    min(steps),
                    max(steps),
                    points,
                    pack(frames, came),
                )
            )
            self.fresh.append(source)
        told, self._told, self._frames = self._told, LineageRows(), {}
        found = told.changes()
        if segments:
            found.append(RowChange(_SAVE_SEGMENTS, (self._partition, *columns(segments))))
        found += model_metric_changes(self._models.take())
        found += self._known.changes(self._blocks.take())
        touched, self._touched = self._touched, {}
        return [*found, *changed((run_id, self._runs[run_id]) for run_id in touched)]


def _ends(steps: "array[int]") -> tuple[int, int]:
    if len(steps) < _VECTOR_FROM:
        return min(steps), max(steps)
    view = np.frombuffer(steps, np.int64)
    return int(view.min()), int(view.max())


@lru_cache(maxsize=256)
def _bounds(keys: tuple[str, ...]) -> tuple[str, str]:
    return min(keys), max(keys)


_SAVE_SEGMENTS = """
INSERT INTO segment (partition, level, head, run_id, first_offset, attempt, rank, branch, first_key, last_key, last_offset, first_step,
                     last_step, points, data)
SELECT $1::integer, 0, 0, new.*
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::text[], $8::text[], $9::bigint[], $10::bigint[],
            $11::bigint[], $12::integer[], $13::bytea[]) AS new
WHERE EXISTS (SELECT FROM fence)
"""
