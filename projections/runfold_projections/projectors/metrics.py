"""Metric points into segments, summaries and attempts."""

from collections.abc import Sequence

from runfold_schemas.events import Genesis, MetricsLogged
from runfold_schemas.frames import Frame
from runfold_schemas.position import Partition
from runfold_schemas.record import Record

from ..database import Connection
from ..folds.decision import Rejection
from ..folds.metrics import NO_RANK, Latest, RunMetrics, Summary, fold_frame
from ..fresh import merge, pack
from ..merging import Source
from ..rowchange import RowChange, columns

MOST_CACHED_SUMMARIES = 100_000
"""About 40 MB per partition."""


class MetricsProjector:
    """Projector of one partition of the `metrics` topic.

    The frames of a batch are collected per (run, attempt, rank) and folded merged, when its changes are asked for: array operations on
    few large frames instead of many small ones. The summaries are joins, so that this changes no outcome.
    """

    def __init__(self, where: Partition) -> None:
        self._partition = where.partition
        self.forget()

    def forget(self) -> None:
        self._runs: dict[str, RunMetrics] = {}
        self._frames: dict[Source, tuple[int, int, list[Frame]]] = {}
        self.fresh: list[Source] = []
        self._new_attempts: list[tuple[str, str, int, int]] = []

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        wanted = {r.event.run_id for r in records if isinstance(r.event, MetricsLogged)}
        missing = sorted(wanted - self._runs.keys())
        if not missing:
            return
        if sum(len(run.summaries) for run in self._runs.values()) > MOST_CACHED_SUMMARIES:
            self.forget()
            missing = sorted(wanted)
        self._runs.update({run_id: RunMetrics() for run_id in missing})
        for row in await connection.fetch(
            "SELECT run_id, attempt, ordinal FROM attempt WHERE run_id = ANY ($1::text[]) ORDER BY run_id, ordinal",
            missing,
        ):
            self._runs[row["run_id"]].attempts[row["attempt"]] = row["ordinal"]
        for row in await connection.fetch(
            """
            SELECT run_id, key, value, step, time_ms, min_value, max_value, model_id, dataset_name, dataset_digest
            FROM metric WHERE run_id = ANY ($1::text[])
            """,
            missing,
        ):
            latest = Latest(
                row["value"],
                row["step"],
                row["time_ms"],
                row["model_id"],
                row["dataset_name"],
                row["dataset_digest"],
            )
            self._runs[row["run_id"]].summaries[row["key"]] = Summary(latest, row["min_value"], row["max_value"])

    def fold(self, record: Record) -> Rejection | None:
        event = record.event
        if isinstance(event, Genesis):
            return None
        assert isinstance(event, MetricsLogged), event
        writer = record.envelope.writer
        attempts = self._runs[event.run_id].attempts
        if writer.attempt not in attempts:
            attempts[writer.attempt] = len(attempts)
            self._new_attempts.append((event.run_id, writer.attempt, attempts[writer.attempt], record.position.offset))
        source = Source(event.run_id, writer.attempt, NO_RANK if writer.rank is None else writer.rank)
        offset = record.position.offset
        first, _, frames = self._frames.get(source) or (offset, offset, [])
        frames.extend(event.frames)
        self._frames[source] = (first, offset, frames)
        return None

    def changes(self) -> list[RowChange]:
        segments = []
        changed: set[tuple[str, str]] = set()
        for (run_id, attempt, rank), (first_offset, last_offset, parts) in self._frames.items():
            frames = merge(parts)
            if not frames:
                continue
            run = self._runs[run_id]
            for frame in frames:
                changed.update((run_id, key) for key in fold_frame(run, frame))
            points = sum(len(frame.values) for frame in frames)
            keys = {key for frame in frames for key in frame.keys}
            segments.append(
                (run_id, first_offset, attempt, rank, min(keys), max(keys), last_offset, points, pack(frames))
            )
            self.fresh.append(Source(run_id, attempt, rank))
        attempts, self._new_attempts, self._frames = self._new_attempts, [], {}
        found = []
        if attempts:
            found.append(RowChange(_SAVE_ATTEMPTS, columns(attempts)))
        if segments:
            found.append(RowChange(_SAVE_SEGMENTS, (self._partition, *columns(segments))))
        if changed:
            found.append(self._summaries(sorted(changed)))
        return found

    def _summaries(self, changed: Sequence[tuple[str, str]]) -> RowChange:
        rows = [(run_id, key, self._runs[run_id].summaries[key]) for run_id, key in changed]
        return RowChange(
            _SAVE_SUMMARIES,
            (
                [run_id for run_id, _, _ in rows],
                [key for _, key, _ in rows],
                [s.latest.value for _, _, s in rows],
                [s.latest.step for _, _, s in rows],
                [s.latest.time_ms for _, _, s in rows],
                [s.least for _, _, s in rows],
                [s.most for _, _, s in rows],
                [s.latest.model_id for _, _, s in rows],
                [s.latest.dataset_name for _, _, s in rows],
                [s.latest.dataset_digest for _, _, s in rows],
            ),
        )


_SAVE_ATTEMPTS = """
INSERT INTO attempt (run_id, attempt, ordinal, first_offset)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_SEGMENTS = """
INSERT INTO segment (partition, level, head, run_id, first_offset, attempt, rank, first_key, last_key, last_offset, points, data)
SELECT $1::integer, 0, 0, new.*
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::bigint[], $9::integer[],
            $10::bytea[]) AS new
WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_SUMMARIES = """
INSERT INTO metric (run_id, key, value, step, time_ms, min_value, max_value, model_id, dataset_name, dataset_digest)
SELECT * FROM unnest($1::text[], $2::text[], $3::float8[], $4::bigint[], $5::bigint[], $6::float8[], $7::float8[], $8::text[],
                     $9::text[], $10::text[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (run_id, key) DO UPDATE SET
    value = excluded.value, step = excluded.step, time_ms = excluded.time_ms, min_value = excluded.min_value,
    max_value = excluded.max_value, model_id = excluded.model_id, dataset_name = excluded.dataset_name,
    dataset_digest = excluded.dataset_digest
"""
