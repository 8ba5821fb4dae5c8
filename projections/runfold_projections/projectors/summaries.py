"""Summaries of runs: out of the tables, into them, and, after a cut, out of the points."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..database import Connection
from ..folds.metrics import Latest, RunMetrics, Summary, fold_frame, until
from ..packs import read_segment
from ..rowchange import RowChange, columns

_LAST_STEP = 2**63 - 1
_SEGMENTS_AT_ONCE = 2
"""A segment has up to 32 MB."""


async def load_summaries(connection: Connection, runs: Mapping[str, RunMetrics], run_ids: Sequence[str]) -> None:
    """Put into these runs what the tables hold of their summaries."""
    for row in await connection.fetch(
        """
        SELECT run_id, key, value, step, time_ms, min_value, max_value, model_id, dataset_name, dataset_digest
        FROM metric WHERE run_id = ANY ($1::text[])
        """,
        run_ids,
    ):
        latest = Latest(
            row["value"],
            row["step"],
            row["time_ms"],
            row["model_id"],
            row["dataset_name"],
            row["dataset_digest"],
        )
        runs[row["run_id"]].summaries[row["key"]] = Summary(latest, row["min_value"], row["max_value"])


async def sum_up_anew(connection: Connection, run_id: str, run: RunMetrics, keys: Collection[str]) -> None:
    """Replace the summaries of these keys by those of the effective points in the tables; a key without such points has none.

    Reads the run's segments one after another, those that are cut off whole not at all.
    """
    view = run.lineage.view()
    sources = await connection.fetch("SELECT DISTINCT branch, rank FROM segment WHERE run_id = $1", run_id)
    limits = {(branch, rank): view.limit(branch, rank) for branch, rank in sources}
    found = RunMetrics()
    async with connection.transaction(readonly=True):
        cursor = connection.cursor(
            """
            SELECT s.branch, s.rank, s.head, s.data
            FROM segment s
            JOIN unnest($2::integer[], $3::integer[], $4::bigint[]) AS shown (branch, rank, last) USING (branch, rank)
            WHERE s.run_id = $1 AND s.first_step <= shown.last AND s.first_key <= $6 AND s.last_key >= $5
            """,
            run_id,
            [branch for branch, _ in limits],
            [rank for _, rank in limits],
            [_LAST_STEP if limit is None else limit for limit in limits.values()],
            min(keys),
            max(keys),
            prefetch=_SEGMENTS_AT_ONCE,
        )
        async for branch, rank, head, data in cursor:
            await asyncio.to_thread(_add, found, head, data, limits[branch, rank])
    for key in keys:
        summary = found.summaries.get(key)
        if summary is None:
            del run.summaries[key]
        else:
            run.summaries[key] = summary


def _add(found: RunMetrics, head: int, data: bytes, limit: int | None) -> None:
    for frame in read_segment(head, data):
        fold_frame(found, until(frame, limit))


def saved(runs: Mapping[str, RunMetrics], changed: Iterable[tuple[str, str]]) -> list[RowChange]:
    """The rows of changed summaries."""
    rows: list[tuple[Any, ...]] = []
    for run_id, key in sorted(changed):
        summary = runs[run_id].summaries.get(key)
        if summary is not None:
            of = summary.latest
            rows.append(
                (
                    run_id,
                    key,
                    of.value,
                    of.step,
                    of.time_ms,
                    summary.least,
                    summary.most,
                    of.model_id,
                    of.dataset_name,
                    of.dataset_digest,
                )
            )
    return [RowChange(_SAVE, columns(rows))] if rows else []


def removed(runs: Mapping[str, RunMetrics], changed: Iterable[tuple[str, str]]) -> list[RowChange]:
    """Those of keys that have no effective point any more."""
    rows = [(run_id, key) for run_id, key in sorted(changed) if key not in runs[run_id].summaries]
    return [RowChange(_REMOVE, columns(rows))] if rows else []


_SAVE = """
INSERT INTO metric (run_id, key, value, step, time_ms, min_value, max_value, model_id, dataset_name, dataset_digest)
SELECT * FROM unnest($1::text[], $2::text[], $3::float8[], $4::bigint[], $5::bigint[], $6::float8[], $7::float8[], $8::text[],
                     $9::text[], $10::text[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (run_id, key) DO UPDATE SET
    value = excluded.value, step = excluded.step, time_ms = excluded.time_ms, min_value = excluded.min_value,
    max_value = excluded.max_value, model_id = excluded.model_id, dataset_name = excluded.dataset_name,
    dataset_digest = excluded.dataset_digest
"""
_REMOVE = """
DELETE FROM metric m USING unnest($1::text[], $2::text[]) AS old (run_id, key)
WHERE m.run_id = old.run_id AND m.key = old.key AND EXISTS (SELECT FROM fence)
"""
