"""Metric points into segments and summaries; attempts, rewinds and forks into the lineage that says which points are effective."""

import time
from array import array
from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np

from runfold_projections.core.rejection import Rejection
from runfold_projections.core.turns import Turns
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_projections.segments.compaction import Source
from runfold_projections.segments.level0 import merged, packed
from runfold_schemas.bounded_cache import BoundedCache, names_cost
from runfold_schemas.codec.record import Record
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import AttemptStarted, BranchFact, MetricsLogged, RunForked, RunRewound
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition

from . import model_blocks
from .branch_rows import LineageRows, load_lineages
from .branches import NO_RANK, Cut
from .keys import FEW_KEYS, Layouts
from .model_block_rows import KnownBlocks
from .model_blocks import ModelBlocks
from .model_metric_rows import model_metric_changes
from .model_metrics import ModelMetrics
from .residence import make_room
from .run_metrics import RunMetrics, until
from .summaries import Summaries
from .summary_rows import changed, load_summaries, sum_up_anew

MOST_BYTES = 96 * 1024 * 1024
"""Memory that the summaries of one partition's runs may take, about: two million of wide runs that log the same keys. Beyond it are only
the runs of the batch that is folded."""
LOOK_EVERY = 5.0
"""Seconds after which it is looked for what may go, also if no new runs come."""

_VECTOR_FROM = 100
"""Steps from which on NumPy finds their ends faster than Python does."""


_Extent = tuple[tuple[str, str], tuple[int, int], int]
"""Least and greatest key, first and last step, points."""


class MetricsProjector:
    """Projector of one partition of the `metrics` topic.

    The frames of a batch are collected per source and folded merged, when it is settled: array operations on
    few large frames instead of many small ones, in slices that other partitions come in between. Summaries are joins of what is effective after the whole batch, so that this changes
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
        await load_lineages(connection, found, missing)
        await load_summaries(connection, found, missing)
        self._runs.update(found)

    def _make_room(self, wanted: Collection[str]) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY
        make_room(self._runs, wanted, MOST_BYTES)

    def fold(self, record: Record) -> Rejection | None:
        event = record.event
        if isinstance(event, Genesis):
            return None
        assert isinstance(event, MetricsLogged | BranchFact), event
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
        return (record.entity,) if isinstance(record.event, BranchFact) else ()

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
        self._settled = await self._sum_up(Turns())

    async def _sum_up(self, turns: Turns) -> list[RowChange]:
        segments = []
        frames_of, self._frames = self._frames, {}
        for source, (first_offset, last_offset, parts) in frames_of.items():
            frames, came = await merged(parts, turns)
            if not frames:
                continue
            extent = await self._add(source, frames, turns)
            data = await packed(frames, came, turns)
            keys, (first_step, last_step), points = extent
            steps = (first_step, last_step, points)
            segments.append((source.run_id, first_offset, *source[1:], *keys, last_offset, *steps, data))
            self.fresh.append(source)
        found = []
        if segments:
            found.append(RowChange(_SAVE_SEGMENTS, (self._partition, *columns(segments))))
        found += model_metric_changes(self._models.take())
        found += self._known.changes(self._blocks.take())
        touched, self._touched = self._touched, {}
        return [*found, *await changed(((run_id, self._runs[run_id]) for run_id in touched), turns)]

    async def _add(self, source: Source, frames: Sequence[Frame], turns: Turns) -> _Extent:
        """Sum up and measure."""
        run = self._runs[source.run_id]
        limit = run.lineage.view().limit(source.branch, source.rank) if run.lineage.cuts else None
        first_key, last_key = _bounds(frames[0].keys)
        first_step, last_step = _ends(frames[0].steps)
        for frame in frames:
            if turns.is_over:
                await turns.end()
            (least, most), (first, last) = _bounds(frame.keys), _ends(frame.steps)
            first_key, last_key = min(first_key, least), max(last_key, most)
            first_step, last_step = min(first_step, first), max(last_step, last)
            run.summaries.add(until(frame, limit))
            measured = self._blocks if len(frame.keys) >= model_blocks.WIDE else self._models
            measured.add(source.run_id, frame)
        self._touched[source.run_id] = None
        points = sum(len(frame.values) for frame in frames)
        return (first_key, last_key), (first_step, last_step), points

    def changes(self) -> list[RowChange]:
        told, self._told = self._told, LineageRows()
        settled, self._settled = self._settled, []
        return [*told.changes(), *settled]


_bounds_of: BoundedCache[tuple[str, ...], tuple[str, str]] = BoundedCache(8 * 1024 * 1024)


def _bounds(keys: tuple[str, ...]) -> tuple[str, str]:
    """Least and greatest key."""
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


_SAVE_SEGMENTS = """
INSERT INTO segment (partition, level, head, run_id, first_offset, attempt, rank, branch, first_key, last_key, last_offset, first_step,
                     last_step, points, data)
SELECT $1::integer, 0, 0, new.*
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::text[], $8::text[], $9::bigint[], $10::bigint[],
            $11::bigint[], $12::integer[], $13::bytea[]) AS new
WHERE EXISTS (SELECT FROM fence)
"""
