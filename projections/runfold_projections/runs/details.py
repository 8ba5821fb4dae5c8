"""Details of many runs at once: params, tags, latest metrics, datasets and models."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

from runfold_projections.metrics.summaries import Block
from runfold_projections.postgres.connection import Connection
from runfold_projections.series.fork_summaries import InheritedSummaries, inherited_summaries, join_summaries
from runfold_projections.series.latest import LatestMetric, latest_metrics


@dataclass(frozen=True, slots=True)
class Dataset:
    """One use of a dataset by a run. `schema` and `profile` are the writer's texts, mostly JSON."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: dict[str, str]


@dataclass(slots=True)
class RunDetails:
    """Details of one run. Params, tags and metrics are ordered by key, datasets and models by arrival."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[LatestMetric] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    """Logged models that the run created, each with its step."""
    ancestors: frozenset[str] = frozenset()
    """Runs that this one may inherit metrics from."""


_METRICS_BETWEEN_TURNS = 4_000
"""Metrics loaded before other requests have a turn."""
# Rows of one shape in one round trip are 2.5 times as fast as arrays aggregated per run (measured), and so is sorting
# them in Python.
_ALL = """
SELECT 'param' AS kind, run_id, key, value, NULL::bigint AS ordinal, NULL::jsonb AS document, NULL::text[] AS keys,
    NULL::bytea AS numbers
FROM run_param WHERE run_id = ANY ($1)
UNION ALL
SELECT 'tag', run_id, key, value, NULL, NULL, NULL, NULL
FROM run_tag WHERE run_id = ANY ($1)
UNION ALL
SELECT 'metrics', run_id, NULL, NULL, NULL, contexts, keys, numbers
FROM metric_block WHERE run_id = ANY ($1)
UNION ALL
SELECT 'dataset', run_id, NULL, NULL, ordinal, to_jsonb(d) - '{run_id,ordinal}'::text[], NULL, NULL
FROM run_dataset d WHERE run_id = ANY ($1)
UNION ALL
SELECT 'model', run_id, model_id, NULL, ordinal, NULL, NULL, NULL
FROM run_model WHERE run_id = ANY ($1)
UNION ALL
SELECT 'output', run_id, model_id, step::text, ordinal, NULL, NULL, NULL
FROM run_output WHERE run_id = ANY ($1)
UNION ALL
SELECT 'fork', run_id, NULL, NULL, NULL, NULL, NULL, NULL
FROM fork WHERE run_id = ANY ($1)
"""


async def load_details(connection: Connection, run_ids: Sequence[str]) -> dict[str, RunDetails]:
    """Load the details of each run in one round trip; a few more if a run is a fork."""
    found = {run_id: RunDetails() for run_id in run_ids}
    inputs: list[tuple[int, str, Any]] = []
    outputs: list[tuple[int, str, tuple[str, int]]] = []
    blocks: dict[str, list[Block]] = {}
    forked: list[str] = []
    for kind, run_id, key, value, ordinal, document, keys, numbers in await connection.fetch(_ALL, run_ids):
        if kind == "param":
            found[run_id].params[key] = value
        elif kind == "tag":
            found[run_id].tags[key] = value
        elif kind == "metrics":
            blocks.setdefault(run_id, []).append(Block(keys, numbers, document))
        elif kind == "fork":
            forked.append(run_id)
        elif kind == "output":
            outputs.append((ordinal, run_id, (key, int(value))))
        else:
            inputs.append((ordinal, run_id, key if kind == "model" else Dataset(**document)))
    for _, run_id, what in sorted(inputs, key=itemgetter(0)):
        own = found[run_id]
        own.datasets.append(what) if isinstance(what, Dataset) else own.models.append(what)
    for _, run_id, output in sorted(outputs):
        found[run_id].outputs.append(output)
    inherits = await inherited_summaries(connection, forked) if forked else {}
    loaded = 0
    for run_id, own in found.items():
        for block in _metrics_of(own, blocks.get(run_id, []), inherits.get(run_id)):
            own.metrics += latest_metrics(block)
            loaded += len(block.keys)
            if loaded >= _METRICS_BETWEEN_TURNS:
                loaded = 0
                await asyncio.sleep(0)
        own.params = dict(sorted(own.params.items()))
        own.tags = dict(sorted(own.tags.items()))
        own.metrics.sort(key=attrgetter("key"))
    return found


def _metrics_of(own: RunDetails, blocks: Sequence[Block], more: InheritedSummaries | None) -> Sequence[Block]:
    """Return the blocks with a run's metrics, including those that it inherits."""
    if more is None:
        return blocks
    both = join_summaries(blocks, more)
    own.ancestors = more.ancestors
    return [both.block(n) for n in range(both.blocks)]
