"""Summaries of runs: loaded from the tables, saved to them, and recomputed from the points after a cut."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from runfold_projections.core.turns import Turns
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection

from .recompute_summaries import summed_up
from .run_metrics import RunMetrics
from .summaries import Block

SHARED = 64
"""Keys of a block from which on its layout is saved, which identifies blocks of the same keys: similar trainings log
the same."""


async def load_summaries(connection: Connection, runs: Mapping[str, RunMetrics], run_ids: Sequence[str]) -> None:
    """Load the summaries of these runs from the tables into them."""
    turns = Turns()
    for row in await connection.fetch(
        """
        SELECT run_id, keys, numbers, contexts FROM metric_block
        WHERE run_id = ANY ($1::text[]) ORDER BY run_id, block
        """,
        run_ids,
    ):
        runs[row["run_id"]].summaries.restore_next(Block(row["keys"], row["numbers"], row["contexts"]))
        if turns.is_over:
            await turns.end()


async def recompute(connection: Connection, run_id: str, run: RunMetrics, keys: Collection[str]) -> None:
    """Recompute the summaries of these keys from the effective points in the tables; a key without such points has
    none.

    Reads the run's segments one after another, skipping those that are cut off entirely.
    """
    view = run.branches.view()
    sources = await connection.fetch("SELECT DISTINCT branch, rank FROM segment WHERE run_id = $1", run_id)
    limits = {(branch, rank): view.limit(branch, rank) for branch, rank in sources}
    found = await summed_up(connection, run_id, limits, (min(keys), max(keys)))
    run.summaries.replace(keys, found)


async def summary_changes(runs: Iterable[tuple[str, RunMetrics]], turns: Turns) -> list[RowChange]:
    """Return the changes that save all changed blocks of summaries of these runs."""
    numbers: list[tuple[Any, ...]] = []
    whole: list[tuple[Any, ...]] = []
    gone: list[tuple[str, int]] = []
    for run_id, run in runs:
        dirty, grown = run.summaries.drain_changed()
        for number in sorted(dirty):
            if turns.is_over:
                await turns.end()
            if number >= run.summaries.blocks:
                gone.append((run_id, number))
                continue
            block = run.summaries.block(number)
            if number in grown:
                shared = len(block.keys) >= SHARED
                whole.append((run_id, number, block.numbers, block.contexts, json.dumps(block.keys), shared))
            else:
                numbers.append((run_id, number, block.numbers, block.contexts))
    found = ((_SAVE, whole), (_SAVE_NUMBERS, numbers), (_REMOVE, gone))
    return [RowChange(text, columns(rows)) for text, rows in found if rows]


_SAVE = """
INSERT INTO metric_block (run_id, block, numbers, contexts, keys, layout)
SELECT new.run_id, new.block, new.numbers, new.contexts, ARRAY (SELECT jsonb_array_elements_text(new.keys::jsonb)),
       CASE WHEN new.shared THEN md5(new.keys)::uuid END
FROM unnest($1::text[], $2::integer[], $3::bytea[], $4::jsonb[], $5::text[], $6::boolean[])
     AS new (run_id, block, numbers, contexts, keys, shared)
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (run_id, block) DO UPDATE
SET numbers = excluded.numbers, contexts = excluded.contexts, keys = excluded.keys, layout = excluded.layout
"""
_SAVE_NUMBERS = """
UPDATE metric_block b SET numbers = new.numbers, contexts = new.contexts
FROM unnest($1::text[], $2::integer[], $3::bytea[], $4::jsonb[]) AS new (run_id, block, numbers, contexts)
WHERE b.run_id = new.run_id AND b.block = new.block AND EXISTS (SELECT FROM fence)
"""
_REMOVE = """
DELETE FROM metric_block b USING unnest($1::text[], $2::integer[]) AS old (run_id, block)
WHERE b.run_id = old.run_id AND b.block = old.block AND EXISTS (SELECT FROM fence)
"""
