"""Blocks of metrics of logged models into their table. Rows are joined there, so nothing is loaded before."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from runfold_projections.postgres.batch_statement import RowChange, columns

from .model_blocks import BlockOf, ModelBlock

_MOST_KNOWN = 100_000


class KnownBlocks:
    """Blocks that have a row, whose keys need not be written again. Belongs to the memory that a projector forgets."""

    def __init__(self) -> None:
        self._known: set[BlockOf] = set()

    def changes(self, found: Mapping[BlockOf, ModelBlock]) -> list[RowChange]:
        """Return the statements that join the blocks of a batch with the stored ones."""
        old = {of: block for of, block in found.items() if of in self._known}
        new = {of: block for of, block in found.items() if of not in self._known}
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        self._known.update(new)
        changes = []
        if old:
            changes.append(RowChange(_JOIN_OLD, (*_arrays(old), *columns(_heads(old)))))
        if new:
            rows = [
                (*head, of.dataset_name, of.dataset_digest, block.keys[0], block.keys[-1], json.dumps(block.keys))
                for head, (of, block) in zip(_heads(new), new.items(), strict=True)
            ]
            changes.append(RowChange(_JOIN_NEW, (*_arrays(new), *columns(rows))))
        return changes


def _arrays(found: Mapping[BlockOf, ModelBlock]) -> tuple[list[float], ...]:
    """Concatenate the values of all blocks: Postgres has no arrays of arrays."""
    blocks = list(found.values())
    return tuple(
        np.concatenate([getattr(block, name) for block in blocks]).tolist() for name in ("latest", "least", "most")
    )


def _heads(found: Mapping[BlockOf, ModelBlock]) -> list[tuple[Any, ...]]:
    rows, start = [], 1
    for of, block in found.items():
        stop = start + len(block.keys)
        rows.append((of.model_id, of.run_id, of.dataset, of.layout, block.time_ms, block.step, start, stop - 1))
        start = stop
    return rows


# NaN sorts above all numbers, so a least of NaN means that there are no numbers; -inf means no most.
_JOINED = """
    time_ms = GREATEST(b.time_ms, n.time_ms),
    step = CASE WHEN (n.time_ms, n.step) > (b.time_ms, b.step) THEN n.step ELSE b.step END,
    value = CASE WHEN (n.time_ms, n.step) > (b.time_ms, b.step) THEN n.value
                 WHEN (n.time_ms, n.step) < (b.time_ms, b.step) THEN b.value
                 ELSE (SELECT array_agg(GREATEST(x, y)) FROM unnest(b.value, n.value) AS v (x, y)) END,
    (least, most) = (SELECT array_agg(LEAST(l, m)), array_agg(GREATEST(x, y))
                     FROM unnest(b.least, n.least, b.most, n.most) AS v (l, m, x, y))
"""
_JOIN_OLD = f"""
UPDATE model_block b SET {_JOINED}
FROM (
    SELECT u.*, ($1::double precision[])[first:last] AS value, ($2::double precision[])[first:last] AS least,
           ($3::double precision[])[first:last] AS most
    FROM unnest($4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[], $10::integer[],
        $11::integer[])
         AS u (model_id, run_id, dataset, layout, time_ms, step, first, last)
) n
WHERE b.model_id = n.model_id AND b.run_id = n.run_id AND b.dataset = n.dataset AND b.layout = n.layout
    AND EXISTS (SELECT FROM fence)
"""  # noqa: S608
_JOIN_NEW = f"""
INSERT INTO model_block AS b (model_id, run_id, dataset, layout, time_ms, step, dataset_name, dataset_digest,
    first_key, last_key, keys,
                              value, least, most)
SELECT model_id, run_id, dataset, layout, time_ms, step, dataset_name, dataset_digest, first_key, last_key,
       ARRAY (SELECT jsonb_array_elements_text(keys::jsonb)),
       ($1::double precision[])[first:last], ($2::double precision[])[first:last], ($3::double precision[])[first:last]
FROM unnest($4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[], $10::integer[],
    $11::integer[],
            $12::text[], $13::text[], $14::text[], $15::text[], $16::text[])
     AS u (model_id, run_id, dataset, layout, time_ms, step, first, last, dataset_name, dataset_digest, first_key,
         last_key, keys)
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (model_id, run_id, dataset, layout) DO UPDATE SET {_JOINED.replace("n.", "excluded.")}
"""  # noqa: S608
