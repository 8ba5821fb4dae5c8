"""Metric points into segments and summaries; attempts, rewinds and forks into branches."""

import time
from array import array
from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np

from runfold_projections.core.projector import Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.core.turns import Turns
from runfold_projections.model_metrics import model_blocks
from runfold_projections.model_metrics.model_block_rows import KnownBlocks
from runfold_projections.model_metrics.model_blocks import ModelBlocks
from runfold_projections.model_metrics.model_metric_rows import model_metric_changes
from runfold_projections.model_metrics.model_metrics import ModelMetrics
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_projections.segments.compaction import SegmentSource
from runfold_projections.segments.compaction_backlog import PartitionCompaction
from runfold_projections.segments.frame_groups import join_in_slices
from runfold_projections.segments.level0 import encode_level0_in_slices
from runfold_schemas.bounded_cache import BoundedCache, names_cost
from runfold_schemas.codec.record import Record
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import BranchFact, MetricsLogged
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition

from .branch_rows import BranchRows, load_branches
from .fold import fold
from .keys import FEW_KEYS, Layouts
from .run_eviction import make_room
from .run_metrics import RunMetrics, rows_up_to
from .summaries import Summaries
from .summary_rows import load_summaries, recompute, summary_changes

MOST_BYTES = 96 * 1024 * 1024
"""Approximate memory of the summaries of one partition's runs: two million summaries of wide runs with the same keys.
Only the runs of the batch being folded may exceed it.
"""
LOOK_EVERY = 5.0
"""Seconds between two evictions, even if no new runs appear."""

_VECTOR_FROM = 100
"""Number of steps from which on NumPy finds their extremes faster than Python."""


_Extent = tuple[tuple[str, str], tuple[int, int], int]
"""Least and greatest key, least and greatest step, number of points."""


class MetricsProjector(Projector):
    """Projector of one partition of the `metrics` topic.

    The frames of a batch are collected per source and merged at its end: array operations on few large frames instead
    of many small ones, in slices between which other partitions run. Summaries are joins of the points that are
    effective after the whole batch, so this changes no result.
    """

    def __init__(self, where: Partition) -> None:
        self._partition = where.partition
        self.compaction = PartitionCompaction(where.partition)
        self.forget()

    def forget(self) -> None:
        self._runs: OrderedDict[str, RunMetrics] = OrderedDict()
        """In the order of their last use."""
        self._layouts = Layouts()
        self._frames: dict[SegmentSource, tuple[int, int, list[tuple[Frame, int]]]] = {}
        self._fresh: list[SegmentSource] = []
        self.compaction.forget()
        self._branch_rows = BranchRows()
        self._models = ModelMetrics()
        self._blocks, self._known = ModelBlocks(), KnownBlocks()
        self._cut_at: dict[str, int] = {}
        self._touched: dict[str, None] = {}
        self._settled: list[RowChange] = []
        self._look_at = 0.0

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        wanted = {r.event.run_id for r in records if isinstance(r.event, MetricsLogged | BranchFact)}
        for run_id in wanted & self._runs.keys():
            self._runs.move_to_end(run_id)
        missing = sorted(wanted - self._runs.keys())
        if missing or time.monotonic() >= self._look_at:
            self._make_room(wanted)
        if not missing:
            return
        found = {run_id: RunMetrics(summaries=Summaries(self._layouts)) for run_id in missing}
        await load_branches(connection, found, missing)
        await load_summaries(connection, found, missing)
        self._runs.update(found)

    def _make_room(self, wanted: Collection[str]) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY
        make_room(self._runs, wanted, MOST_BYTES)

    def fold(self, record: Record) -> Rejection | None:
        event = record.event
        if isinstance(event, MetricsLogged):
            step = fold(self._runs[event.run_id].branches, record)
            source = SegmentSource(event.run_id, record.envelope.writer.attempt, step.rank, step.branch)
            self._collect(source, record.position.offset, event)
            if step.appeared is not None:
                self._branch_rows.add(record, step)
        elif isinstance(event, BranchFact):
            step = fold(self._runs[event.run_id].branches, record)
            self._branch_rows.add(record, step)
            if step.cut is not None:
                self._cut_at[event.run_id] = min(step.cut.step, self._cut_at.get(event.run_id, step.cut.step))
        else:
            assert isinstance(event, Genesis), event
        return None

    def _collect(self, source: SegmentSource, offset: int, event: MetricsLogged) -> None:
        first, _, frames = self._frames.get(source) or (offset, offset, [])
        frames.extend((frame, offset) for frame in event.frames)
        self._frames[source] = (first, offset, frames)

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        """Return the run for events about branches.

        Points have no journal: they are the bulk of the log, and segments have their offsets.
        """
        return (record.entity,) if isinstance(record.event, BranchFact) else ()

    def state(self, entity: str) -> bytes | None:
        return None

    async def load_deferred(self, connection: Connection) -> None:
        """Recompute summaries that the batch's cuts may have changed: of keys with points beyond a cut."""
        for run_id, step in self._cut_at.items():
            run = self._runs[run_id]
            keys = run.summaries.beyond(step)
            if keys:
                await recompute(connection, run_id, run, keys)
                self._touched[run_id] = None
        self._cut_at = {}
        self._settled = await self._sum_up(Turns())

    async def _sum_up(self, turns: Turns) -> list[RowChange]:
        segments = []
        frames_of, self._frames = self._frames, {}
        for source, (first_offset, last_offset, parts) in frames_of.items():
            frames, came = await join_in_slices(parts, turns)
            if not frames:
                continue
            extent = await self._add(source, frames, turns)
            data = await encode_level0_in_slices(frames, came, turns)
            keys, (first_step, last_step), points = extent
            steps = (first_step, last_step, points)
            segments.append((source.run_id, first_offset, *source[1:], *keys, last_offset, *steps, data))
            self._fresh.append(source)
        found = []
        if segments:
            found.append(RowChange(_SAVE_SEGMENTS, (self._partition, *columns(segments))))
        found += model_metric_changes(self._models.drain())
        found += self._known.changes(self._blocks.drain())
        touched, self._touched = self._touched, {}
        return [*found, *await summary_changes(((run_id, self._runs[run_id]) for run_id in touched), turns)]

    async def _add(self, source: SegmentSource, frames: Sequence[Frame], turns: Turns) -> _Extent:
        """Add frames to the summaries, and return their extent."""
        run = self._runs[source.run_id]
        limit = run.branches.view().limit(source.branch, source.rank) if run.branches.cuts else None
        first_key, last_key = _bounds(frames[0].keys)
        first_step, last_step = _ends(frames[0].steps)
        for frame in frames:
            if turns.is_over:
                await turns.end()
            (least, most), (first, last) = _bounds(frame.keys), _ends(frame.steps)
            first_key, last_key = min(first_key, least), max(last_key, most)
            first_step, last_step = min(first_step, first), max(last_step, last)
            run.summaries.add(rows_up_to(frame, limit))
            measured = self._blocks if len(frame.keys) >= model_blocks.WIDE else self._models
            measured.add(source.run_id, frame)
        self._touched[source.run_id] = None
        points = sum(len(frame.values) for frame in frames)
        return (first_key, last_key), (first_step, last_step), points

    def repeated(self, offsets: Sequence[int]) -> list[RowChange]:
        return [RowChange(_SAVE_REPEATS, (self._partition, list(offsets)))]

    def committed(self) -> None:
        for source in self._fresh:
            self.compaction.add(source)
        self._fresh.clear()

    def changes(self) -> list[RowChange]:
        branch_rows, self._branch_rows = self._branch_rows, BranchRows()
        settled, self._settled = self._settled, []
        return [*branch_rows.changes(), *settled]


_bounds_of: BoundedCache[tuple[str, ...], tuple[str, str]] = BoundedCache(8 * 1024 * 1024)


def _bounds(keys: tuple[str, ...]) -> tuple[str, str]:
    """Return the least and the greatest key."""
    found = None if len(keys) <= FEW_KEYS else _bounds_of.get(keys)
    if found is None:
        found = (min(keys), max(keys))
        if len(keys) > FEW_KEYS:
            _bounds_of.put(keys, found, names_cost(keys))
    return found


def _ends(steps: "array[int]") -> tuple[int, int]:
    if len(steps) < _VECTOR_FROM:
        return min(steps), max(steps)
    view = np.frombuffer(steps, np.int64)
    return int(view.min()), int(view.max())


_SAVE_REPEATS = """
INSERT INTO metric_repeat (partition, log_offset)
SELECT $1::integer, log_offset FROM unnest($2::bigint[]) AS new (log_offset) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_SEGMENTS = """
INSERT INTO segment (partition, level, head, run_id, first_offset, attempt, rank, branch, first_key, last_key,
    last_offset, first_step,
                     last_step, points, data)
SELECT $1::integer, 0, 0, new.*
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::text[], $8::text[], $9::bigint[],
    $10::bigint[],
            $11::bigint[], $12::integer[], $13::bytea[]) AS new
WHERE EXISTS (SELECT FROM fence)
"""
